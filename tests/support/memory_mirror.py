"""A revocation mirror in memory, for tests and for the nodes of one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from token_service.core.revocation.log import LogHead
from token_service.errors import StoreUnavailableError
from token_service.tokens.revocation import Revocation


class MemoryMirrorData:
    """What the mirrors of several nodes share: the part of Redis."""

    def __init__(self) -> None:
        self.available = True
        """Set it to False and every call fails, as with a Redis that is down."""
        self.epoch = ""
        self.entries: dict[int, Revocation] = {}
        self.position: int | None = None
        """Nothing is missing up to here; None: lost."""
        self.generation = 0
        self.listeners: set[asyncio.Queue[tuple[str, Sequence[Revocation]]]] = set()

    def lose(self) -> None:
        """Forget everything, as by FLUSHALL."""
        self.epoch = ""
        self.entries.clear()
        self.position = None
        self.generation += 1


class MemoryMirror:
    """One node's side. Implements `RevocationMirror`."""

    def __init__(self, data: MemoryMirrorData) -> None:
        self._data = data

    async def publish(self, epoch: str, entries: Sequence[Revocation]) -> None:
        """Add entries and tell the listeners."""
        self._check()
        self._add(epoch, entries)
        for listener in self._data.listeners:
            listener.put_nowait((epoch, list(entries)))

    async def position(self, epoch: str) -> int | None:
        """Up to which sequence nothing is missing; None if that is not known."""
        self._check()
        return self._data.position if self._data.epoch == epoch else None

    async def rebuild(self, head: LogHead, entries: AsyncIterator[Sequence[Revocation]]) -> None:
        """Add what is missing and say that nothing is."""
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
        """Entries as they are published from now on."""
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
