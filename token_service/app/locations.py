"""The databases of addresses of a process: opened with the policy file, and again when a file changes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from token_service.core.risk.watch import RiskWatch
from token_service.errors import ConfigurationError

if TYPE_CHECKING:
    from token_service.fetching.address_databases import AddressDatabases

CHECK_INTERVAL: Final = 60.0
"""Seconds between two looks at the files."""

_Marks: TypeAlias = tuple[tuple[int, int, int] | None, ...]

logger = logging.getLogger(__name__)


class Locations:
    """The open files. For one event loop."""

    def __init__(self) -> None:
        self._paths: tuple[str, ...] = ()
        self._marks: _Marks = ()
        self._open: AddressDatabases | None = None
        self._watch: RiskWatch | None = None

    def prepare(self, paths: Sequence[str]) -> AddressDatabases | None:
        """Open files that are to be used. Those in use are not read again. Raises `ConfigurationError`."""
        if tuple(paths) == self._paths and _marks(paths) == self._marks:
            return self._open
        return open_locations(paths) if paths else None

    def use(self, paths: Sequence[str], databases: AddressDatabases | None, watch: RiskWatch) -> None:
        """Let a watch look addresses up in the files that `prepare` opened."""
        self._paths, self._marks = tuple(paths), _marks(paths)
        self._open, self._watch = databases, watch
        watch.replace_locator(databases)

    async def run(self) -> None:
        """Read files again that were replaced, until cancelled. A file that can't be used leaves the old ones in use."""
        refused: _Marks = ()
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            paths, watch, marks = self._paths, self._watch, _marks(self._paths)
            if watch is None or marks in (self._marks, refused):
                continue
            try:
                databases = await asyncio.to_thread(open_locations, paths)
            except ConfigurationError as error:
                logger.warning(
                    "the databases of addresses have changed and stay as they were in use: %s", error.message
                )
                refused = marks
                continue
            if paths == self._paths:
                self.use(paths, databases, watch)
                logger.info("the databases of addresses were read again")


def open_locations(paths: Sequence[str | Path]) -> AddressDatabases:
    """Read the files. Raises `ConfigurationError`, which names the file and its fault."""
    # Imported only where files are configured.
    from token_service.fetching.address_databases import open_address_databases

    return open_address_databases(paths)


def _marks(paths: Sequence[str]) -> _Marks:
    """Return what tells versions of the files apart."""
    return tuple(_mark(path) for path in paths)


def _mark(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a path of the configuration, which may hold anything
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
