"""The port for the event log: the events of the outbox, in one order for all readers.

Transactions write their events into the outbox. A reader of the outbox could miss a row whose transaction commits late.
So `sequence` moves committed rows into the log under a lock and numbers them: a reader that has read the log up to a
sequence has every event up to it. When the revocation log is renewed after a failover or a restored backup, the numbers
jump above all that were given out, so that none names two events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from token_service.core.events.chain import AuditRow

MAX_EVENTS_READ: Final = 500
"""Events of one page."""


class StoredEvent(msgspec.Struct, frozen=True):
    """An event of the log."""

    sequence: int
    """The place in the log, from 1. Numbers may be missing."""
    chain_id: str
    position: int
    type: str
    """The `Action`."""
    row: AuditRow | None
    """The row of the audit trail; None after its retention."""

    @property
    def id(self) -> str:
        """A name that stays the same whenever and wherever the event is delivered."""
        return f"{self.chain_id}:{self.position}"


@dataclass(frozen=True, slots=True)
class EventHead:
    """The ends of the event log."""

    epoch: str
    """The name of the log, made with the database."""
    sequence: int
    """The sequence of the newest event; 0: none yet."""
    purged: int
    """The sequence of the newest event that was deleted after the retention; 0: none yet."""
    waiting: bool = False
    """Whether the outbox has rows to move."""


class EventLog(Protocol):
    """The event log, and the places of its consumers. Each method raises `StoreUnavailableError`."""

    async def head(self) -> EventHead:
        """Return the ends of the log."""
        ...

    async def sequence(self, limit: int) -> int:
        """Move up to `limit` rows of the outbox to the end of the log, in the order of their ids; return how many.

        The events of one transaction, and of one chain, keep their order. Concurrent calls wait for each other. Moves
        nothing while the revocation log must be renewed.
        """
        ...

    async def waiting(self) -> float:
        """Return the age in seconds of the oldest row of the outbox; 0: there is none."""
        ...

    async def read(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Return up to `limit` events with a sequence above `after`, in order."""
        ...

    async def before(self, time: float) -> int:
        """Return the sequence of the newest event that is older than a time; 0: none is.

        Seconds since the Unix epoch.
        """
        ...

    async def purge(self, before: float, limit: int) -> int:
        """Delete up to `limit` events that are older than `before`, the oldest first; return how many.

        Seconds since the Unix epoch. Rows that still wait in the outbox are kept.
        """
        ...

    async def position(self, consumer: str) -> int | None:
        """Return the sequence up to which a consumer has handled the log; None: the consumer is unknown."""
        ...

    async def positions(self) -> dict[str, int]:
        """Return the places of all consumers by name."""
        ...

    async def start(self, consumer: str, sequence: int) -> int:
        """Note a consumer at `sequence` unless it is known; return its place."""
        ...

    async def advance(self, consumer: str, known: int, sequence: int) -> bool:
        """Move a consumer from `known` to `sequence`. Returns False if another process has moved it meanwhile."""
        ...

    async def forget(self, consumer: str) -> None:
        """Delete the place of a consumer."""
        ...
