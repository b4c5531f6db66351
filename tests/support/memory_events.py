"""The `EventLog` in memory."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from tests.support.memory_audit import MemoryAuditStore
from token_service.clock import Clock
from token_service.core.events.log import EventHead, StoredEvent


class MemoryEventLog:
    """Implements `core.events.log.EventLog` over the outbox of a `MemoryAuditStore`."""

    def __init__(self, audit: MemoryAuditStore, clock: Clock) -> None:
        self._audit: Final = audit
        self._clock: Final = clock
        self._epoch: Final = secrets.token_urlsafe(12)
        self._renewals = 0
        self._events: list[tuple[float, int, str, int, str]] = []
        self.last = 0
        self._purged = 0
        self.places: dict[str, int] = {}

    async def head(self) -> EventHead:
        """See `EventLog.head`."""
        self._jump()
        return EventHead(self._epoch, self.last, self._purged, waiting=bool(self._audit.outbox))

    async def sequence(self, limit: int) -> int:
        """See `EventLog.sequence`."""
        self._jump()
        moved, self._audit.outbox = self._audit.outbox[:limit], self._audit.outbox[limit:]
        for time, type_, chain_id, position in moved:
            self.last += 1
            self._events.append((time, self.last, chain_id, position, type_))
        return len(moved)

    async def waiting(self) -> float:
        """See `EventLog.waiting`."""
        return max((self._clock.now() - time for time, *_ in self._audit.outbox), default=0.0)

    async def read(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """See `EventLog.read`."""
        rows = self._audit.by_place
        return [
            StoredEvent(sequence, chain_id, position, type_, rows.get((chain_id, position)))
            for _, sequence, chain_id, position, type_ in self._events
            if sequence > after
        ][:limit]

    async def before(self, time: float) -> int:
        """See `EventLog.before`."""
        return max((sequence for written, sequence, *_ in self._events if written < time), default=0)

    async def purge(self, before: float, limit: int) -> int:
        """See `EventLog.purge`."""
        count = 0
        while count < limit and self._events and self._events[0][0] < before:
            self._purged = self._events.pop(0)[1]
            count += 1
        return count

    async def position(self, consumer: str) -> int | None:
        """See `EventLog.position`."""
        return self.places.get(consumer)

    async def positions(self) -> dict[str, int]:
        """See `EventLog.positions`."""
        return dict(self.places)

    async def start(self, consumer: str, sequence: int) -> int:
        """See `EventLog.start`."""
        return self.places.setdefault(consumer, sequence)

    async def advance(self, consumer: str, known: int, sequence: int) -> bool:
        """See `EventLog.advance`."""
        if self.places.get(consumer) != known:
            return False
        self.places[consumer] = sequence
        return True

    def put(self, consumer: str, sequence: int) -> None:
        """Set the place of a consumer."""
        self.places[consumer] = sequence

    async def forget(self, consumer: str) -> None:
        """See `EventLog.forget`."""
        self.places.pop(consumer, None)

    def _jump(self) -> None:
        """Raise the numbers after a renewal of the revocation log."""
        if self._renewals != self._audit.renewals:
            self._renewals = self._audit.renewals
            self.last = max(self.last, round(self._clock.now() * 1_000_000))
