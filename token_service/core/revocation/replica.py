"""This node's copy of the revocation log: the set of live revocations, and the place it has reached.

The replica is at one place of one log. It moves by single steps: entry n + 1 after entry n, or a reset.
Listeners see every move in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Protocol

from token_service.tokens.revocation import Cursor, Revocation
from token_service.tokens.revocation_set import RevocationSet


class ReplicaListener(Protocol):
    """Follows a replica. Called from the event loop; must not block or raise."""

    def applied(self, entries: Sequence[Revocation]) -> None:
        """Take entries that follow the previously applied ones without a gap."""
        ...

    def was_reset(self) -> None:
        """Take note that the replica is at another place, which does not continue the previous one."""
        ...


class Replica:
    """The revocations that this node knows. For one event loop."""

    def __init__(self) -> None:
        self.revocations = RevocationSet(names=True)
        self.epoch = ""
        self.applied = 0
        """Every entry up to this sequence is in the set, or can't match a valid token any more."""
        self.newest: float | None = None
        """`revoke_time` of the entry `applied`; None: not known."""
        self._cursor = Cursor("", 0)
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._listeners: list[ReplicaListener] = []

    @property
    def cursor(self) -> Cursor:
        """The place of the replica. Meaningful only after the first reset."""
        cursor = self._cursor
        if cursor.sequence != self.applied or cursor.epoch != self.epoch:
            cursor = self._cursor = Cursor(self.epoch, self.applied)
        return cursor

    def listen(self, listener: ReplicaListener) -> None:
        """Tell a listener of every move from now on."""
        self._listeners.append(listener)

    def reset(
        self,
        epoch: str,
        sequence: int,
        revocations: RevocationSet | None = None,
        *,
        newest: float | None = None,
    ) -> None:
        """Move to `sequence` of the log `epoch`, with its live `revocations` up to there; None: no revocations."""
        self.revocations = RevocationSet(names=True) if revocations is None else revocations
        self.epoch = epoch
        self.applied = sequence
        self.newest = newest
        for listener in self._listeners:
            listener.was_reset()
        # An awaited entry may never arrive now.
        waiters, self._waiters = self._waiters, []
        for _, _, future in waiters:
            if not future.done():
                future.set_result(None)

    def skip(self, sequence: int) -> None:
        """Move past entries that were purged because none of them can match a valid token."""
        self.applied = sequence
        self.newest = None
        for listener in self._listeners:
            listener.was_reset()
        self._wake()

    def apply(self, entries: Sequence[Revocation]) -> None:
        """Apply entries; the first must be the one after `applied`."""
        if not entries:
            return
        for entry in entries:
            if entry.sequence != self.applied + 1:
                raise ValueError(f"entry {entry.sequence} does not follow {self.applied}")
            self.revocations.apply(entry)
            self.applied = entry.sequence
            self.newest = entry.revoke_time
        for listener in self._listeners:
            listener.applied(entries)
        self._wake()

    async def wait_for(self, cursor: Cursor) -> None:
        """Return once every entry up to `cursor` is applied, or after a reset.

        Returns immediately for another epoch.
        """
        if self.applied >= cursor.sequence or cursor.epoch != self.epoch:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiters, (cursor.sequence, next(self._order), future))
        await future

    def _wake(self) -> None:
        while self._waiters and (self._waiters[0][0] <= self.applied or self._waiters[0][2].done()):
            future = heappop(self._waiters)[2]
            if not future.done():
                future.set_result(None)
