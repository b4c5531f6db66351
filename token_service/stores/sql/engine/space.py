"""Whether the database has space to write, for the readiness of a node: a full disk fails writes, not reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from token_service.errors import StoreUnavailableError, TokenServiceError
from token_service.stores.sql.engine.errors import resource_trouble

_INTERVAL: Final = 1.0
"""Seconds between two tries to write after one that failed."""

_log: Final = logging.getLogger(__name__)


class SpaceWatch:
    """Notices a write that fails for want of space, and finds out when there is some again."""

    def __init__(self, grow: Callable[[], Awaitable[None]]) -> None:
        """`grow` writes more than any call does, for a small write may have room where others fail."""
        self._grow = grow
        self._failed = asyncio.Event()
        self.trouble: str | None = None
        """Why nothing can be written; None as far as is known."""

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notice an error of this block that means that nothing can be written."""
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
        """After a write that failed, try again until one succeeds; until cancelled."""
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
