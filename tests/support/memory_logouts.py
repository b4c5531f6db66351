"""The deliveries of logouts in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final
from uuid import UUID

from msgspec import structs

from tests.support.memory_clients import micro
from token_service.core.logout.store import Backlog, Delivery, EndedSession
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import SessionFilter
from token_service.tokens.revocation import Revocation


class MemoryLogoutStore:
    """Implements `core.logout.store.LogoutStore`."""

    def __init__(self, sessions: Callable[[], Collection[Session]]) -> None:
        self._sessions: Final = sessions
        self._cursor = 0
        self.deliveries: dict[UUID, tuple[float, Delivery]] = {}
        """Due time and delivery by session."""

    async def cursor(self) -> int:
        """See `LogoutStore.cursor`."""
        return self._cursor

    async def sessions(self, ids: Collection[UUID]) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions`."""
        found = [row for row in self._sessions() if row.id in ids and row.personal_hash is None]
        return [_ended(row) for row in sorted(found, key=lambda row: row.id)]

    async def sessions_ended_by(
        self, by: SessionFilter, value: str, entry: Revocation, limit: int
    ) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions_ended_by`."""
        rows = [
            row
            for row in self._sessions()
            if getattr(row, by.value) == value
            and row.personal_hash is None
            and row.revision < entry.sequence
            and min(row.idle_expire_time, row.absolute_expire_time) > entry.revoke_time
            and (row.revoke_time is None or row.revoke_time > entry.revoke_time)
        ]
        rows.sort(key=lambda row: (row.create_time, row.id), reverse=True)
        return [_ended(row) for row in rows[:limit]]

    async def plan(self, sessions: Sequence[EndedSession], after: int, through: int, now: float) -> bool:
        """See `LogoutStore.plan`."""
        if self._cursor != after:
            return False
        self._cursor = through
        for each in sessions:
            self.deliveries.setdefault(each.session_id, (micro(now), Delivery(each, micro(now))))
        return True

    async def due(self, now: float, limit: int, besides: Collection[str]) -> Sequence[Delivery]:
        """See `LogoutStore.due`."""
        found = [
            (due_time, each.session.session_id, each)
            for due_time, each in self.deliveries.values()
            if due_time <= micro(now) and each.session.client_id not in besides
        ]
        return [each for *_, each in sorted(found, key=lambda item: item[:2])[:limit]]

    async def finish(self, session_ids: Collection[UUID]) -> None:
        """See `LogoutStore.finish`."""
        for each in session_ids:
            self.deliveries.pop(each, None)

    async def postpone(self, session_id: UUID, attempts: int, due_time: float) -> None:
        """See `LogoutStore.postpone`."""
        if session_id in self.deliveries:
            delivery = structs.replace(self.deliveries[session_id][1], attempts=attempts)
            self.deliveries[session_id] = micro(due_time), delivery

    async def postpone_client(self, client_id: str, due_time: float) -> None:
        """See `LogoutStore.postpone_client`."""
        for key, (due, each) in self.deliveries.items():
            if each.session.client_id == client_id:
                self.deliveries[key] = max(due, micro(due_time)), each

    async def backlog(self) -> Backlog:
        """See `LogoutStore.backlog`."""
        due_times = [due_time for due_time, _ in self.deliveries.values()]
        return Backlog(len(due_times), min(due_times, default=None))


def _ended(row: Session) -> EndedSession:
    return EndedSession(row.id, row.client_id, row.subject)
