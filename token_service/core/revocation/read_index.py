"""The read index: the head of the log, read after a call arrived and shared by concurrent calls.

A read that began before a call arrived may miss entries acknowledged before the call. A call therefore never
joins a running read: it joins the next one.
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
        """Return the head, read after this call began. Raises `StoreUnavailableError`."""
        task = self._next
        if task is None:
            task = asyncio.create_task(self._read(self._running), name="read-index")
            task.add_done_callback(_retrieve)
            if self._running is None:
                self._running = task
            else:
                self._next = task
        # A cancelled caller must not cancel the read of the other callers.
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
    """Mark a failure as retrieved: all callers may have been cancelled."""
    if not task.cancelled():
        task.exception()
