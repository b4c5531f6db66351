"""The read index: the head of the log as it was after a call arrived, shared by concurrent calls.

A read that began before a call arrived may have missed what was acknowledged before the call, so a call never
joins a read under way: it joins the next one.
"""

from __future__ import annotations

import asyncio

from token_service.core.revocation.log import LogHead, RevocationLog


class ReadIndex:
    """Reads the head of the log for any number of concurrent calls."""

    def __init__(self, log: RevocationLog) -> None:
        self._log = log
        self._running: asyncio.Task[LogHead] | None = None
        self._next: asyncio.Task[LogHead] | None = None

    async def head(self) -> LogHead:
        """The head, read after this call. Raises `StoreUnavailableError`."""
        task = self._next
        if task is None:
            task = asyncio.create_task(self._read(self._running), name="read-index")
            task.add_done_callback(_retrieve)
            if self._running is None:
                self._running = task
            else:
                self._next = task
        # A caller that goes away must not take the read from the others.
        return await asyncio.shield(task)

    async def _read(self, before: asyncio.Task[LogHead] | None) -> LogHead:
        if before is not None:
            await asyncio.wait([before])
            self._running, self._next = self._next, None
        try:
            return await self._log.head()
        finally:
            if self._next is None:
                self._running = None


def _retrieve(task: asyncio.Task[LogHead]) -> None:
    """Mark a failure as seen: all callers may have gone away."""
    if not task.cancelled():
        task.exception()
