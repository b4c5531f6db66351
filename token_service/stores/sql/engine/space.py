"""The watch for free space of the database, for the readiness of a node: a full disk fails writes, not reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from token_service.errors import StoreUnavailableError, TokenServiceError
from token_service.stores.sql.engine.errors import resource_trouble

_INTERVAL: Final = 1.0
"""Seconds between two test writes after a failed write."""

_log: Final = logging.getLogger(__name__)


class SpaceWatch:
    """Detects writes that fail for lack of space, and tests until writes succeed again."""

    def __init__(self, grow: Callable[[], Awaitable[None]]) -> None:
        """Create a watch. `grow` writes more bytes than any call, because a small write may still fit on a full disk."""
        self._grow = grow
        self._failed = asyncio.Event()
        self.trouble: str | None = None
        """The reason why no write can succeed; None if no such reason is known."""

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Record an error of this block which means that no write can succeed."""
        try:
            yield
        except StoreUnavailableError as error:
            trouble = resource_trouble(error.__cause__)
            if trouble is not None:
                if self.trouble is None:
                    _log.error("%s; this node is not ready until it can write again", trouble)
                self.trouble = trouble
                self._failed.set()
            raise

    async def run(self) -> None:
        """Repeat test writes after a failed write until one succeeds. Runs until cancelled."""
        while True:
            await self._failed.wait()
            await asyncio.sleep(_INTERVAL)
            try:
                await self._grow()
            except TokenServiceError:
                continue
            self._failed.clear()
            self.trouble = None
            _log.warning("the database can be written again")
