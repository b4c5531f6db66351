"""The port for logouts that clients are still to be told of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from token_service.core.sessions.store import SessionFilter
from token_service.tokens.revocation import Revocation


class EndedSession(Struct, frozen=True):
    """A session that a revocation has ended."""

    session_id: UUID
    client_id: str
    subject: str


class Delivery(Struct, frozen=True):
    """A logout that a client is still to be told of. Times are NumericDates."""

    session: EndedSession
    create_time: float
    attempts: int = 0
    """Failed attempts so far."""


class Backlog(Struct, frozen=True):
    """The deliveries that wait."""

    count: int = 0
    next_due: float | None = None
    """None: no delivery waits."""


class LogoutStore(Protocol):
    """The deliveries, and the place in the revocation log up to which they are planned.

    One node works on them at a time. If two do, clients may be told twice, but none is left out.
    """

    async def cursor(self) -> int:
        """Return the sequence of the last entry of the log that is planned."""
        ...

    async def sessions(self, ids: Collection[UUID]) -> Sequence[EndedSession]:
        """Return the sessions with these ids, except personal access tokens."""
        ...

    async def sessions_ended_by(
        self, by: SessionFilter, value: str, entry: Revocation, limit: int
    ) -> Sequence[EndedSession]:
        """Return up to `limit` sessions of a subject or client that an entry has ended, newest first.

        These are the sessions that began before the entry, and had neither expired nor been revoked by themselves at its
        time; no personal access tokens.
        """
        ...

    async def plan(self, sessions: Sequence[EndedSession], after: int, through: int, now: float) -> bool:
        """Add deliveries, due at once, and move the cursor from `after` to `through`, in one transaction.

        A session that has a delivery keeps it. Changes nothing and returns False if the cursor is not at `after`.
        """
        ...

    async def due(self, now: float, limit: int, besides: Collection[str]) -> Sequence[Delivery]:
        """Return up to `limit` deliveries that are due, oldest due time first, without those of some clients."""
        ...

    async def finish(self, session_ids: Collection[UUID]) -> None:
        """Delete deliveries."""
        ...

    async def postpone(self, session_id: UUID, attempts: int, due_time: float) -> None:
        """Set the failed attempts and the due time of a delivery."""
        ...

    async def postpone_client(self, client_id: str, due_time: float) -> None:
        """Set the due time of the deliveries of a client that are due earlier."""
        ...

    async def backlog(self) -> Backlog:
        """Return the number of deliveries and the earliest due time."""
        ...
