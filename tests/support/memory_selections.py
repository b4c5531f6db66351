"""Selections of sessions and pages of the log in the memory of one process, for tests."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final
from uuid import UUID

from token_service.core.revocation.entries import EntryFilter, EntryPage, LogEntry
from token_service.core.sessions.selection import (
    TOP_CLIENTS,
    SelectionPart,
    SessionReach,
    SessionSelection,
)
from token_service.core.sessions.store import SessionPosition
from token_service.core.sessions.walk import MAX_WALKED, WalkedSession, WalkFilter, WalkPart
from token_service.tokens.revocation import RevocationReason, RevocationTarget

if TYPE_CHECKING:
    from tests.support.memory_stores import State
    from token_service.core.sessions.session import Session


class MemorySessionSelections:
    """Implements `core.sessions.selection.SessionSelections`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def part(
        self, selection: SessionSelection, *, live_at: float, limit: int, after: SessionPosition | None
    ) -> SelectionPart:
        """See `SessionSelections.part`."""
        rows = [
            row
            for row in self._selected(selection, live_at)
            if after is None or (row.create_time, row.id) < (after.create_time, after.session_id)
        ][:limit]
        last = SessionPosition(rows[-1].create_time, rows[-1].id) if len(rows) == limit else None
        return SelectionPart([row.id for row in rows], last)

    async def reach(
        self, selection: SessionSelection, *, live_at: float, sample: int | None = None
    ) -> SessionReach:
        """See `SessionSelections.reach`."""
        rows = self._selected(selection, live_at)
        clients = Counter(row.client_id for row in rows)
        return SessionReach(
            sessions=len(rows),
            subjects=len({row.subject for row in rows}),
            clients=len(clients),
            top_clients=sorted(clients.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP_CLIENTS],
            oldest_create_time=min((row.create_time for row in rows), default=None),
            last_expire_time=max((row.absolute_expire_time for row in rows), default=None),
        )

    def _selected(self, selection: SessionSelection, live_at: float) -> list[Session]:
        return sorted(
            (
                row
                for row in self._state.sessions.values()
                if _matches(selection, row) and self._state.is_live(row, live_at)
            ),
            key=lambda row: (row.create_time, row.id),
            reverse=True,
        )


class MemorySessionWalk:
    """Implements `core.sessions.walk.SessionWalk`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def part(self, where: WalkFilter, *, live_at: float, limit: int, after: UUID | None) -> WalkPart:
        """See `SessionWalk.part`."""
        rows = sorted(self._state.sessions.values(), key=lambda row: row.id)
        examined = [row for row in rows if after is None or row.id > after][:MAX_WALKED]
        found = [
            WalkedSession(
                session_id=row.id,
                client_id=row.client_id,
                classification=row.classification,
                create_time=row.create_time,
                last_use_time=row.last_use_time,
                is_personal=row.personal_hash is not None,
            )
            for row in examined
            if self._state.is_live(row, live_at)
            and (
                (where.created_before is not None and row.create_time < where.created_before)
                or (where.used_before is not None and row.last_use_time < where.used_before)
                or (where.classified and row.classification)
            )
        ]
        if len(found) >= limit:
            return WalkPart(found[:limit], found[limit - 1].session_id)
        return WalkPart(found, examined[-1].id if len(examined) == MAX_WALKED else None)


class MemoryRevocationEntries:
    """Implements `core.revocation.entries.RevocationEntries`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def page(self, where: EntryFilter, *, live_at: float, limit: int, below: int | None) -> EntryPage:
        """See `RevocationEntries.page`."""
        found = [
            LogEntry(entry, self._state.comments.get(entry.sequence, ""))
            for entry in reversed(self._state.entries)
            if (below is None or entry.sequence < below)
            and entry.expire_time > live_at
            and (where.target is None or entry.target is where.target)
            and (not where.value or entry.value == where.value)
            and where.reason in {RevocationReason.UNSPECIFIED, entry.reason}
        ][:limit]
        last = found[-1].revocation.sequence if len(found) == limit else 0
        return EntryPage(
            self._state.head.epoch, found, last if last > self._state.head.compacted + 1 else None
        )

    async def has_floor(self, target: RevocationTarget, value: str) -> bool:
        """See `RevocationEntries.has_floor`."""
        return (target, value) in self._state.floors


def _matches(selection: SessionSelection, row: Session) -> bool:
    return (
        selection.subject in {"", row.subject}
        and selection.client_id in {"", row.client_id}
        and selection.device_id in {"", row.device_id}
        and selection.upstream in {"", row.upstream}
        and (selection.created_after is None or row.create_time >= selection.created_after)
        and (selection.created_before is None or row.create_time < selection.created_before)
        and (selection.last_used_before is None or row.last_use_time < selection.last_used_before)
    )
