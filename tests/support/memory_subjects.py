"""Data about one subject in the memory of one process, for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec import structs, to_builtins

from token_service.core.administration.subjects.store import ApprovedDevice, PendingLogout, SubjectData
from token_service.core.events.chain import PERSONAL, AuditRow
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditPosition

if TYPE_CHECKING:
    from tests.support.memory_logouts import MemoryLogoutStore
    from tests.support.memory_stores import MemoryDeviceRequests, State


class MemorySubjectStore:
    """Implements `core.administration.subjects.store.SubjectStore`."""

    def __init__(self, state: State, devices: MemoryDeviceRequests, logouts: MemoryLogoutStore) -> None:
        self._state: Final = state
        self._devices: Final = devices
        self._logouts: Final = logouts

    async def count(self, subject: str) -> SubjectData:
        """See `SubjectStore.count`."""
        named = await self.session_ids(subject, "", 1_000_000)
        events = [
            row
            for row in self._kept()
            if subject in {row.subject, row.on_behalf_of} or row.session_id in named
        ]
        return SubjectData(
            sessions=len(self._sessions(subject)),
            events=len(events),
            device_requests=len(self._devices.approved_by(subject)),
            logouts=len(await self.logouts(subject, 1_000_000)),
        )

    async def session_ids(self, subject: str, after: str, limit: int) -> Sequence[str]:
        """See `SubjectStore.session_ids`."""
        stored = {str(each) for each in self._sessions(subject)}
        return sorted(each for each in stored | self._named(subject) if each > after)[:limit]

    async def acts(self, subject: str, *, limit: int, after: AuditPosition | None) -> Sequence[AuditRow]:
        """See `SubjectStore.acts`."""
        rows = [
            row
            for row in self._state.audit.by_place.values()
            if row.subject != subject
            and row.on_behalf_of == subject
            and (after is None or _place(row) < (after.time, after.chain_id, after.position))
        ]
        return sorted(rows, key=_place, reverse=True)[:limit]

    async def device_requests(self, subject: str) -> Sequence[ApprovedDevice]:
        """See `SubjectStore.device_requests`."""
        return [
            ApprovedDevice(
                client_id=each.client_id,
                scopes=each.scopes,
                audience=each.audience,
                expire_time=each.expire_time,
                approval=to_builtins(each.decision.approval),
            )
            for each in self._devices.approved_by(subject)
            if each.decision is not None
        ]

    async def logouts(self, subject: str, limit: int) -> Sequence[PendingLogout]:
        """See `SubjectStore.logouts`."""
        found = [each for _, each in self._logouts.deliveries.values() if each.session.subject == subject]
        return [
            PendingLogout(each.session.session_id, each.session.client_id, each.create_time)
            for each in found[:limit]
        ]

    async def erase_sessions(self, actor: Actor, subject: str, now: float, limit: int) -> SubjectData:
        """See `SubjectStore.erase_sessions`."""
        sessions = self._state.sessions
        ended = [each for each in self._sessions(subject) if not self._state.is_live(sessions[each], now)]
        ended = ended[:limit]
        ids = {str(each) for each in ended}
        events = self._erase(actor, lambda row: row.session_id in ids, limit)
        if events >= limit:
            return SubjectData(events=events)
        for each in ended:
            del sessions[each], self._state.origins[each]
        return SubjectData(sessions=len(ended), events=events)

    async def erase_events(self, actor: Actor, subject: str, limit: int) -> int:
        """See `SubjectStore.erase_events`."""
        named = self._named(subject)
        return (
            self._erase(actor, lambda row: row.session_id in named and row.subject != subject, limit)
            or self._erase(actor, lambda row: row.subject == subject, limit)
            or self._erase(actor, lambda row: row.on_behalf_of == subject, limit)
        )

    async def erase_device_requests(self, subject: str) -> int:
        """See `SubjectStore.erase_device_requests`."""
        found = self._devices.approved_by(subject)
        for each in found:
            await self._devices.remove(each)
        return len(found)

    def _sessions(self, subject: str) -> list[UUID]:
        return sorted(each.id for each in self._state.sessions.values() if each.subject == subject)

    def _named(self, subject: str) -> set[str]:
        return {row.session_id for row in self._state.audit.by_place.values() if row.subject == subject} - {
            ""
        }

    def _kept(self) -> list[AuditRow]:
        return [row for row in self._state.audit.by_place.values() if not row.is_erased]

    def _erase(self, actor: Actor, matches: Callable[[AuditRow], bool], limit: int) -> int:
        rows = [row for row in self._kept() if matches(row)][:limit]
        for row in rows:
            self._state.audit.by_place[row.chain_id, row.position] = structs.replace(
                row, salt=None, **dict.fromkeys(PERSONAL, "")
            )
        if rows:
            event = AuditEvent(
                action=Action.AUDIT_ERASED, actor=actor, target=Target("audit"), fields={"rows": len(rows)}
            )
            self._state.audit.add([event])
        return len(rows)


def _place(row: AuditRow) -> tuple[int, str, int]:
    return row.time, row.chain_id, row.position
