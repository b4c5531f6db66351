"""The port that walks all live sessions in bounded parts, for rules that apply to each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

MAX_WALKED: Final = 5000
"""Sessions that one part of a walk examines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkedSession:
    """The part of a session that rules look at. Times are NumericDates."""

    session_id: UUID
    client_id: str
    classification: str
    """The classification of the client when the session began. Empty: unknown."""
    create_time: float
    last_use_time: float
    is_personal: bool
    """Whether it is a personal access token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkFilter:
    """The sessions to return: those that meet one condition at least."""

    created_before: float | None = None
    used_before: float | None = None
    classified: bool = False
    """Every session with a known classification."""


@dataclass(frozen=True, slots=True)
class WalkPart:
    """A part of a walk."""

    sessions: Sequence[WalkedSession]
    next: UUID | None
    """The id after which the next part begins; None: this is the last one."""


class SessionWalk(Protocol):
    """Walks the session table in the order of the ids. Changes nothing."""

    async def part(self, where: WalkFilter, *, live_at: float, limit: int, after: UUID | None) -> WalkPart:
        """Return up to `limit` live sessions after an id that meet the filter.

        Examines at most `MAX_WALKED` rows, so a part may have none although more follow. A session that existed at the
        beginning of a walk and meets the filter at its part is found.
        """
        ...
