"""The port that lists live entries of the revocation log, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

MAX_ENTRIES_EXAMINED: Final = 50_000
"""Entries that one page examines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Conditions on entries; an empty one does not count."""

    target: RevocationTarget | None = None
    value: str = ""
    reason: RevocationReason = RevocationReason.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry of the log with its comment."""

    revocation: Revocation
    comment: str


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries, newest first."""

    epoch: str
    """The log that the sequences belong to."""
    entries: Sequence[LogEntry]
    next: int | None
    """The next page is below this sequence; None: this is the last page."""


class RevocationEntries(Protocol):
    """Reads the authoritative log and its floors. Changes nothing."""

    async def page(self, where: EntryFilter, *, live_at: float, limit: int, below: int | None) -> EntryPage:
        """Return up to `limit` entries that expire after `live_at`, below a sequence; None: from the head.

        Examines at most `MAX_ENTRIES_EXAMINED` entries, so a page may have fewer entries although more follow.
        Raises `OverloadedError` if many counts and lists wait already.
        """
        ...

    async def has_floor(self, target: RevocationTarget, value: str) -> bool:
        """Tell whether a SUBJECT, a CLIENT or EVERYTHING was revoked and its floor is kept."""
        ...
