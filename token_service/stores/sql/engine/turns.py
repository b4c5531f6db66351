"""Turns of long reads, which may run beside frequent statements only one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from token_service.errors import OverloadedError

MAX_LONG_READS: Final = 8
"""Long reads of a node that may run or wait. Each takes up to half a second."""
_RETRY_AFTER: Final = 1.0


class Turns:
    """Lets one long read of this node run at a time.

    Without this, 60 callers that count sessions took every connection and most of the processor: on SQLite a call of
    another caller waited for 7 s, and the node could not exchange reports.
    """

    def __init__(self) -> None:
        self._running = asyncio.Lock()
        self._reads = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the end of the earlier reads. Raises `OverloadedError` at once if too many wait."""
        if self._reads >= MAX_LONG_READS:
            raise OverloadedError(
                "too many counts and lists are waiting for the database", retry_after=_RETRY_AFTER
            )
        self._reads += 1
        try:
            async with self._running:
                yield
        finally:
            self._reads -= 1
