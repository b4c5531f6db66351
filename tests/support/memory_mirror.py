"""A revocation mirror in memory, for tests and for several nodes in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from token_service.core.revocation.log import LogHead
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Revocation


class MemoryMirrorData:
    """The data that the mirrors of several nodes share, in place of Redis."""

    def __init__(self) -> None:
        self.available = True
        """False: every call fails, as with an unreachable Redis."""
        self.epoch = ""
        self.entries: dict[int, Revocation] = {}
        self.position: int | None = None
        """Sequence up to which the mirror is complete; None: unknown, data was lost."""
        self.generation = 0
        self.listeners: set[asyncio.Queue[tuple[str, Sequence[Revocation]]]] = set()

    def lose(self) -> None:
        """Delete all data, as FLUSHALL does."""
        self.epoch = ""
        self.entries.clear()
        self.position = None
        self.generation += 1


class MemoryMirror:
    """The mirror of one node. Implements `RevocationMirror`."""

    def __init__(self, data: MemoryMirrorData) -> None:
        self._data = data
        self.server = "memory"

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries and give them to the listeners."""
        self._check()
        self._add(epoch, entries)
        for listener in self._data.listeners:
            listener.put_nowait((epoch, list(entries)))

    async def position(self, epoch: str) -> int | None:
        """Return the sequence up to which the mirror is complete; None if unknown."""
        self._check()
        return self._data.position if self._data.epoch == epoch else None

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Add missing entries and mark the mirror as complete up to the head."""
        self._check()
        generation = self._data.generation
        async for page in entries:
            self._check()
            self._add(head.epoch, page)
        if generation != self._data.generation:
            raise StoreUnavailableError("the mirror lost its data while it was being filled")
        self._data.epoch = head.epoch
        self._data.position = max(self._data.position or 0, head.sequence)
        self._advance()

    async def listen(self) -> AsyncIterator[tuple[str, Sequence[Revocation]]]:
        """Yield entries published from now on."""
        queue: asyncio.Queue[tuple[str, Sequence[Revocation]]] = asyncio.Queue()
        self._data.listeners.add(queue)
        try:
            while True:
                self._check()
                try:
                    async with asyncio.timeout(0.05):
                        heard = await queue.get()
                except TimeoutError:
                    continue
                yield heard
        finally:
            self._data.listeners.discard(queue)

    def _add(self, epoch: str, entries: Sequence[Revocation]) -> None:
        if epoch != self._data.epoch:
            self._data.entries.clear()
            self._data.position = None
            self._data.epoch = epoch
        self._data.entries.update((entry.sequence, entry) for entry in entries)
        self._advance()

    def _advance(self) -> None:
        if self._data.position is not None:
            while self._data.position + 1 in self._data.entries:
                self._data.position += 1

    def _check(self) -> None:
        if not self._data.available:
            raise StoreUnavailableError("the mirror is unavailable")
