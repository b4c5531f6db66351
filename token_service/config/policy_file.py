"""Policies and callers from a file and the environment, read again when the file changes."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from token_service.core.access.permissions import Permission, parse_callers
from token_service.core.policy import PolicyBook, parse_policy_book
from token_service.errors import ConfigurationError

PREFIX: Final = "TOKEN_SERVICE_POLICY__"
"""`TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD=5s` overrides `grace_period` of the classification
`internal`.
"""

_INTERVAL: Final = 1.0

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

    def load(self) -> PolicyDocument:
        """Read everything. Raises `ConfigurationError`."""
        document: dict[str, Any] = {}
        if self._path is not None:
            try:
                self._seen = self._path.read_bytes()
                document = tomllib.loads(self._seen.decode())
            except OSError as error:
                raise ConfigurationError(f"{self._path} can't be read: {error.strerror}") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{self._path} is not TOML: {error}") from None
        return PolicyDocument(parse_policy_book(document, self._overrides), parse_callers(document))

    async def watch(self, changed: Callable[[PolicyDocument], None]) -> None:
        """Call `changed` whenever the file has another valid content, until cancelled."""
        while self._path is not None:
            await asyncio.sleep(_INTERVAL)
            try:
                if await asyncio.to_thread(self._path.read_bytes) == self._seen:
                    continue
                document = await asyncio.to_thread(self.load)
            except OSError:
                continue  # being replaced; the old content stays in force
            except ConfigurationError as error:
                logger.error("the policies stay as they were: %s", error.message)  # noqa: TRY400 - no traceback for a typing mistake
                continue
            logger.info("policies read again from %s", self._path)
            changed(document)
