"""Selections of sessions by several conditions, and the port that counts and walks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol
from uuid import UUID

from token_service.core.limits import MAX_CLIENT_ID, MAX_DEVICE_ID, MAX_SUBJECT, Checks
from token_service.core.sessions.store import SessionPosition

MAX_SESSIONS_EXAMINED: Final = 5_000
"""Sessions that one part of a selection examines."""
MAX_SESSIONS_COUNTED: Final = 50_000
"""Sessions that a count examines."""
LIVE_SAMPLE: Final = 5_000
"""Sessions that the count of all live ones examines if the table has more than `MAX_SESSIONS_COUNTED`.

Their ids are random, so that they lie on as many pages of the table: 50,000 of them took 1.7 s every 30 s on a busy
PostgreSQL. The estimate is within 2 % of the rows of the table.
"""
TOP_CLIENTS: Final = 20
_MAX_UPSTREAM: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSelection:
    """The sessions that meet all conditions. An empty one does not count; without any, all sessions are selected."""

    subject: str = ""
    client_id: str = ""
    device_id: str = ""
    upstream: str = ""
    created_after: float | None = None
    """Inclusive."""
    created_before: float | None = None
    last_used_before: float | None = None

    @property
    def names_owner(self) -> bool:
        """Whether the selection is limited to a subject, a client, a device or an upstream."""
        return bool(self.subject or self.client_id or self.device_id or self.upstream)

    def check(self, checks: Checks) -> None:
        """Add the violations of the conditions. At least one condition is required."""
        for name, limit in (
            ("subject", MAX_SUBJECT),
            ("client_id", MAX_CLIENT_ID),
            ("device_id", MAX_DEVICE_ID),
            ("upstream", _MAX_UPSTREAM),
        ):
            checks.text(f"filter.{name}", getattr(self, name), limit)
        if self == EVERY_SESSION:
            checks.add(
                "filter",
                "is required: at least one of subject, client_id, device_id, upstream, created_after, created_before, "
                "last_used_before",
            )


EVERY_SESSION: Final = SessionSelection()


class Accuracy(Enum):
    """How exact a number of sessions is, numbered as in `session_service.proto`."""

    EXACT = 1
    AT_LEAST = 2
    """There are more sessions than a count examines."""
    ESTIMATE = 3
    """Computed from a sample. The other numbers are those of the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReach:
    """The number of the sessions of a selection, and their owners."""

    sessions: int = 0
    accuracy: Accuracy = Accuracy.EXACT
    subjects: int = 0
    clients: int = 0
    top_clients: Sequence[tuple[str, int]] = ()
    """The `TOP_CLIENTS` clients with most sessions, and the sessions of each."""
    oldest_create_time: float | None = None
    last_expire_time: float | None = None
    """The latest absolute expiry."""


@dataclass(frozen=True, slots=True)
class SelectionPart:
    """A part of the sessions of a selection."""

    session_ids: Sequence[UUID]
    next: SessionPosition | None
    """The position after which the next part begins; None: this is the last part."""


class SessionSelections(Protocol):
    """Counts and walks the sessions of selections. Changes nothing.

    Only sessions live at a time (see `SessionStore`) are selected. The order of a walk depends on nothing that changes
    in a row, so a walk finds each session that existed at its beginning and still meets the conditions.
    """

    async def part(
        self, selection: SessionSelection, *, live_at: float, limit: int, after: SessionPosition | None
    ) -> SelectionPart:
        """Return up to `limit` sessions after a position. Examines at most `MAX_SESSIONS_EXAMINED` rows, so it may find none."""
        ...

    async def reach(
        self, selection: SessionSelection, *, live_at: float, sample: int | None = None
    ) -> SessionReach:
        """Count the sessions. Examines at most `MAX_SESSIONS_COUNTED` rows.

        `sample`: the rows to examine instead for a selection without an owner, if more than that many are stored.

        Raises `OverloadedError` if many counts and lists wait already.
        """
        ...
