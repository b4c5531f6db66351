"""Policies and callers from a file and the environment, read again when the file changes."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from token_service.core.access.permissions import Permission, parse_callers
from token_service.core.policies.policy import PolicyBook, parse_policy_book
from token_service.errors import ConfigurationError
from token_service.files import read_regular

PREFIX: Final = "TOKEN_SERVICE_POLICY__"
"""`TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD=5s` overrides `grace_period` of the classification
`internal`.
"""

_INTERVAL: Final = 1.0
_MAX_BYTES: Final = 8 * 1024 * 1024
"""Of the file: 100,000 clients fit."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """What the file and the environment say."""

    book: PolicyBook
    callers: Mapping[str, frozenset[Permission]]


class PolicyFile:
    """Reads the policies; the last good ones stay in force when a new text is wrong."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self._path = path
        self._overrides = {
            name.removeprefix(PREFIX).lower().replace("__", "."): value
            for name, value in environ.items()
            if name.startswith(PREFIX)
        }
        self._seen: bytes | None = None
        self._is_usable = False
        """Whether the content in `_seen` could be used."""
        self._complaint: str | None = None

    def load(self) -> PolicyDocument:
        """Read everything. Raises `ConfigurationError`, whatever the file is and holds."""
        content = self._read()
        self._seen, self._is_usable = content, False
        try:
            document = tomllib.loads(content.decode())
        except (ValueError, RecursionError) as error:
            # Besides its own error the parser lets those of bad UTF-8, of numbers with thousands of digits
            # and of thousands of nested brackets through.
            raise ConfigurationError(f"{self._path} is not TOML: {error}") from None
        try:
            read = PolicyDocument(parse_policy_book(document, self._overrides), parse_callers(document))
        except ConfigurationError as error:
            where = f"{self._path}: " if self._path is not None else ""
            raise ConfigurationError(f"{where}{error.message}") from None
        self._is_usable = True
        return read

    @property
    def is_failing(self) -> bool:
        """Whether the policies in force are older than a file that can't be used."""
        return self._complaint is not None

    async def watch(self, changed: Callable[[PolicyDocument], None]) -> None:
        """Call `changed` whenever the file has another valid content, until cancelled.

        A file that can't be used leaves the last good content in force, and is logged once.
        """
        while self._path is not None:
            await asyncio.sleep(_INTERVAL)
            try:
                if await asyncio.to_thread(self._read) == self._seen:
                    if self._is_usable and self._complaint is not None:
                        self._complaint = None
                        logger.info("%s can be read again", self._path)
                    continue
                document = await asyncio.to_thread(self.load)
            except Exception as error:  # noqa: BLE001 - no file may end a node
                self._complain(error)
                continue
            self._complaint = None
            logger.info("policies read again from %s", self._path)
            changed(document)

    def _read(self) -> bytes:
        if self._path is None:
            return b""
        try:
            return read_regular(self._path, _MAX_BYTES)
        except OSError as error:
            raise ConfigurationError(f"{self._path} can't be read: {error.strerror}") from None

    def _complain(self, error: Exception) -> None:
        complaint = error.message if isinstance(error, ConfigurationError) else repr(error)
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("the policies stay as they were: %s", complaint)
