"""The stores in the memory of one process, for tests.

They keep the contracts of the ports in `core` because no call awaits, so calls never overlap.
"""

from __future__ import annotations

import bisect
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import inf
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from msgspec import structs

from tests.support.memory_audit import MemoryAuditStore, MemorySampleStore
from tests.support.memory_clients import MemoryClientStore, end_client, micro
from tests.support.memory_event_streams import MemoryEventStreamStore
from tests.support.memory_events import MemoryEventLog
from tests.support.memory_logouts import MemoryLogoutStore
from tests.support.memory_policies import MemoryPolicyStore
from tests.support.memory_selections import (
    MemoryRevocationEntries,
    MemorySessionSelections,
    MemorySessionWalk,
)
from tests.support.memory_subjects import MemorySubjectStore
from tests.support.memory_webhooks import MemoryWebhookStore
from token_service.clock import Clock, SystemClock
from token_service.core.clients.client import Client, ClientState
from token_service.core.events.event import NO_ORIGIN, AuditEvent, Origin
from token_service.core.grants.device_requests import Decision, DeviceRequest
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredMacKey, StoredSigningKey
from token_service.core.overrides.store import StoredOverrides
from token_service.core.revocation.log import FloorPosition, LogHead, RevocationDraft
from token_service.core.sessions.details import Floor, SessionDetails
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import (
    RAISES,
    Amendment,
    Judged,
    Race,
    Raise,
    Retry,
    Rotation,
    SessionFilter,
    SessionPosition,
    Use,
)
from token_service.core.subscribers.node_store import NodeReport, SubscriberList
from token_service.errors import ClientDisabledError
from token_service.tokens.claims import Confirmation
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

_FLOORS: Final = frozenset((RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING))


class MemoryStores:
    """All stores, which share one state."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: the clock of the database."""
        clock = clock or SystemClock()
        self.audit: Final = MemoryAuditStore(clock)
        self.samples: Final = MemorySampleStore()
        state = State(clock, self.audit)
        self.sessions: Final = MemorySessionStore(state)
        self.selections: Final = MemorySessionSelections(state)
        self.log: Final = MemoryRevocationLog(state)
        self.entries: Final = MemoryRevocationEntries(state)
        self.keys: Final = MemoryKeyStore(state)
        self.clients: Final = MemoryClientStore(state)
        self.policies: Final = MemoryPolicyStore(state)
        self.leases: Final = MemoryLeaseStore(clock)
        self.events: Final = MemoryEventLog(self.audit, clock)
        self.event_streams: Final = MemoryEventStreamStore(self.audit, self.events)
        self.webhooks: Final = MemoryWebhookStore(self.audit, self.events)
        self.nodes: Final = MemoryNodeStore(clock, state)
        self.used_ids: Final = MemoryUsedIds(state.used_ids, state.audit.add)
        self.device_requests: Final = MemoryDeviceRequests()
        self.logouts: Final = MemoryLogoutStore(state.sessions.values)
        self.walk: Final = MemorySessionWalk(state)
        self.subjects: Final = MemorySubjectStore(state, self.device_requests, self.logouts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class State:
    """The data that the stores share."""

    def __init__(self, clock: Clock, audit: MemoryAuditStore) -> None:
        self.clock = clock
        self.audit = audit
        self.head = LogHead(secrets.token_urlsafe(12), 0, 0, 0)
        self.entries: list[Revocation] = []
        self.comments: dict[int, str] = {}
        """The comment of each entry, by its sequence."""
        self.floors: dict[tuple[RevocationTarget, str], Floor] = {}
        self.sessions: dict[UUID, Session] = {}
        self.origins: dict[UUID, tuple[Origin, Origin]] = {}
        """The origins of the creation and of the last use of each session."""
        self.risk: dict[UUID, tuple[bytes, str]] = {}
        """The tag and the origins of judged sessions."""
        self.races: Counter[UUID] = Counter()
        self.requests: dict[tuple[str, bytes], UUID] = {}
        self.used_ids: dict[tuple[str, str], float] = {}
        """The expiry of each used identifier, by its scope and itself."""
        self.signing_keys: dict[str, StoredSigningKey] = {}
        self.mac_keys: dict[int, StoredMacKey] = {}
        self.clients: dict[str, Client] = {}
        self.overrides = StoredOverrides()

    def floors_of(self, session: Session) -> tuple[Floor, ...]:
        targets = (
            (RevocationTarget.SUBJECT, session.subject),
            (RevocationTarget.CLIENT, session.client_id),
            (RevocationTarget.EVERYTHING, ""),
        )
        return tuple(self.floors[target] for target in targets if target in self.floors)

    def seen(self, session: Session) -> Session:
        """Return a row with the floor and the head that a statement adds to it."""
        floor = max((floor.sequence for floor in self.floors_of(session)), default=0)
        return replace(session, floor=floor, head=self.head.sequence)

    def details(self, session: Session) -> SessionDetails:
        created, last = self.origins[session.id]
        return SessionDetails(
            self.seen(session), created, last, self.floors_of(session), *self.risk.get(session.id, (b"", ""))
        )

    def is_judged(self, session: Session, judged: Judged | None, renewed: float) -> bool:
        if judged is None:
            return True
        tag, _ = self.risk.get(session.id, (b"", ""))
        return tag == judged.expected_tag and renewed <= judged.renewed_by

    def keep_judgment(self, session: Session, judged: Judged | None) -> None:
        if judged is not None:
            _, before = self.risk.get(session.id, (b"", ""))
            self.risk[session.id] = judged.tag, before if judged.origins is None else judged.origins

    def is_live(self, session: Session, now: float) -> bool:
        return self.seen(session).state(now) is SessionState.ACTIVE


def _micro_or_none(seconds: float | None) -> float | None:
    return None if seconds is None else micro(seconds)


def _same_device(session: Session, device_id: str) -> bool:
    return session.device_id in {"", device_id}


def _key_is_proved(session: Session, proved: tuple[Confirmation, ...]) -> bool:
    return not session.confirmation or session.confirmation in proved


class MemorySessionStore:
    """Implements `core.sessions.store.SessionStore`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def create(
        self, session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN
    ) -> tuple[Session, bool]:
        """See `SessionStore.create`."""
        state = self._state
        if request_hash is not None:
            made = state.requests.get((session.client_id, request_hash))
            if made is not None:
                return state.seen(state.sessions[made]), False
        client = state.clients.get(session.client_id)
        if client is not None and client.state is not ClientState.ACTIVE:
            raise ClientDisabledError
        if request_hash is not None:
            state.requests[session.client_id, request_hash] = session.id
        assert session.id not in state.sessions
        row = replace(
            session,
            create_time=micro(session.create_time),
            rotate_time=micro(session.rotate_time),
            last_use_time=micro(session.last_use_time),
            idle_expire_time=micro(session.idle_expire_time),
            absolute_expire_time=micro(session.absolute_expire_time),
            revoke_time=_micro_or_none(session.revoke_time),
            revision=state.head.sequence,
        )
        state.sessions[session.id] = row
        state.origins[session.id] = (origin, origin)
        return state.seen(row), True

    async def rotate(self, command: Rotation) -> Session | None:
        """See `SessionStore.rotate`."""
        now = micro(command.now)
        row = self._state.sessions.get(command.session_id)
        if (
            row is None
            or row.client_id != command.client_id
            or not _same_device(row, command.device_id)
            or not _key_is_proved(row, command.proved)
            or row.generation != command.generation
            or row.refresh_hash != command.current_hash
            or not self._state.is_live(row, now)
            or not self._state.is_judged(row, command.judged, row.rotate_time)
        ):
            return None
        self._used_from(row.id, command.origin)
        self._state.keep_judgment(row, command.judged)
        return self._put(
            replace(
                row,
                generation=row.generation + 1,
                previous_hash=row.refresh_hash,
                refresh_hash=command.next_hash,
                key_version=command.key_version,
                rotate_time=now,
                last_use_time=now,
                retries=0,
                idle_expire_time=min(micro(command.idle_expire_time), row.absolute_expire_time),
            )
        )

    async def retry(self, command: Retry) -> Session | None:
        """See `SessionStore.retry`."""
        row = self._state.sessions.get(command.session_id)
        if (
            row is None
            or row.client_id != command.client_id
            or not _same_device(row, command.device_id)
            or not _key_is_proved(row, command.proved)
            or row.generation != command.generation + 1
            or row.previous_hash != command.previous_hash
            or row.rotate_time <= micro(command.rotated_after)
            or row.retries >= command.max_retries
            or not self._state.is_live(row, micro(command.now))
            or not self._state.is_judged(row, command.judged, -inf)
        ):
            return None
        return self._put(replace(row, retries=row.retries + 1))

    async def race(self, command: Race, events: Sequence[AuditEvent] = ()) -> bool:
        """See `SessionStore.race`."""
        row = self._state.sessions.get(command.session_id)
        if (
            row is None
            or row.generation != command.generation
            or self._state.races[command.session_id] >= command.max_races
            or not self._state.is_live(row, micro(command.now))
        ):
            return False
        self._state.races[command.session_id] += 1
        self._state.audit.add(events)
        return True

    async def use(self, command: Use) -> Session | None:
        """See `SessionStore.use`."""
        now = micro(command.now)
        row = self._state.sessions.get(command.session_id)
        if (
            row is None
            or (command.refresh_hash is not None and row.refresh_hash != command.refresh_hash)
            or not self._state.is_live(row, now)
            or not self._state.is_judged(row, command.judged, row.last_use_time)
        ):
            return None
        if command.refresh_hash is not None:
            self._used_from(row.id, command.origin)
            self._state.keep_judgment(row, command.judged)
        return self._put(
            replace(
                row,
                last_use_time=now,
                idle_expire_time=min(micro(command.idle_expire_time), row.absolute_expire_time),
            )
        )

    async def amend(self, command: Amendment, events: Sequence[AuditEvent] = ()) -> Session | None:
        """See `SessionStore.amend`."""
        row = self._state.sessions.get(command.session_id)
        if (
            row is None
            or row.scopes != command.expected_scopes
            or not self._state.is_live(row, micro(command.now))
        ):
            return None
        self._state.audit.add(events)
        return self._put(
            replace(
                row,
                scopes=command.scopes,
                custom_claims=row.custom_claims if command.custom_claims is None else command.custom_claims,
                auth_context=command.auth_context if command.with_auth_context else row.auth_context,
            )
        )

    async def raise_context(
        self, command: Raise, events: Sequence[AuditEvent] = ()
    ) -> tuple[Session | None, bool]:
        """See `SessionStore.raise_context`."""
        row = self._state.sessions.get(command.session_id)
        if (RAISES, command.grant_id) in self._state.used_ids:
            return None, False
        if (
            row is None
            or row.client_id != command.client_id
            or row.auth_context != command.expected
            or not self._state.is_live(row, micro(command.now))
        ):
            return None, True
        self._state.used_ids[RAISES, command.grant_id] = command.expire_time
        self._state.audit.add(events)
        return self._put(replace(row, auth_context=command.auth_context)), True

    async def get(self, session_id: UUID) -> Session | None:
        """See `SessionStore.get`."""
        row = self._state.sessions.get(session_id)
        return None if row is None else self._state.seen(row)

    async def describe(self, session_id: UUID) -> SessionDetails | None:
        """See `SessionStore.describe`."""
        row = self._state.sessions.get(session_id)
        return None if row is None else self._state.details(row)

    async def list(
        self,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        limit: int,
        after: SessionPosition | None,
        until: SessionPosition | None = None,
        personal: bool = False,
        client_id: str = "",
    ) -> Sequence[SessionDetails]:
        """See `SessionStore.list`."""
        column: Callable[[Session], str] = {
            SessionFilter.SUBJECT: lambda row: row.subject,
            SessionFilter.CLIENT: lambda row: row.client_id,
            SessionFilter.DEVICE: lambda row: row.device_id,
        }[by]
        rows = [
            row
            for row in self._state.sessions.values()
            if column(row) == value
            and (row.personal_hash is not None or not personal)
            and client_id in ("", row.client_id)
            and (by is not SessionFilter.DEVICE or row.device_id)
            and (live_at is None or self._state.is_live(row, micro(live_at)))
            and (after is None or (row.create_time, row.id) < (micro(after.create_time), after.session_id))
            and (until is None or (row.create_time, row.id) >= (micro(until.create_time), until.session_id))
        ]
        rows.sort(key=lambda row: (row.create_time, row.id), reverse=True)
        return [self._state.details(row) for row in rows[:limit]]

    async def position(
        self, by: SessionFilter, value: str, *, after: SessionPosition | None, count: int
    ) -> SessionPosition | None:
        """See `SessionStore.position`."""
        rows = await self.list(by, value, live_at=None, limit=count, after=after)
        if len(rows) < count:
            return None
        return SessionPosition(rows[-1].session.create_time, rows[-1].session.id)

    async def by_upstream(
        self, upstream: str, upstream_session: str, *, live_at: float, limit: int
    ) -> Sequence[UUID]:
        """See `SessionStore.by_upstream`."""
        found = [
            row.id
            for row in self._state.sessions.values()
            if upstream_session
            and (row.upstream, row.upstream_session) == (upstream, upstream_session)
            and self._state.is_live(row, micro(live_at))
        ]
        return sorted(found)[:limit]

    async def purge(self, before: float, limit: int, expired: Counter[str] | None = None) -> int:
        """See `SessionStore.purge`."""
        sessions = self._state.sessions
        gone = [
            row.id
            for row in sessions.values()
            if min(row.idle_expire_time, row.absolute_expire_time) < micro(before)
            or (row.revoke_time is not None and row.revoke_time < micro(before))
        ][:limit]
        for session_id in gone:
            row = self._state.seen(sessions[session_id])
            if expired is not None and row.revoke_time is None and row.floor <= row.revision:
                expired[row.client_id] += 1
            del sessions[session_id], self._state.origins[session_id]
        self._state.requests = {key: made for key, made in self._state.requests.items() if made in sessions}
        return len(gone)

    def _used_from(self, session_id: UUID, origin: Origin) -> None:
        if origin != NO_ORIGIN:
            self._state.origins[session_id] = (self._state.origins[session_id][0], origin)

    def _put(self, row: Session) -> Session:
        self._state.sessions[row.id] = row
        return self._state.seen(row)


class MemoryRevocationLog:
    """Implements `core.revocation.log.RevocationLog`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def append(self, drafts: Sequence[RevocationDraft]) -> tuple[LogHead, Sequence[Revocation]]:
        """See `RevocationLog.append`."""
        state = self._state
        follows = state.head.newest
        entries = []
        for draft in drafts:
            session = draft.target is RevocationTarget.SESSION
            if session and not self._revoke_session(draft) and not draft.restored:
                continue
            key = draft.target is RevocationTarget.KEY
            if key and not self._revoke_key(draft) and not draft.restored:
                continue
            if not end_client(state, draft):
                continue
            entry = Revocation(
                sequence=state.head.sequence + 1,
                target=draft.target,
                value=draft.value,
                revoke_time=micro(draft.revoke_time),
                expire_time=micro(draft.expires(state.clock.now())),
                reason=draft.reason,
                token_expire_time=draft.token_expire_time,
            )
            state.head = replace(
                state.head,
                sequence=entry.sequence,
                newest=entry.revoke_time,
                awaited=entry.sequence if draft.awaited else state.head.awaited,
            )
            state.entries.append(entry)
            state.comments[entry.sequence] = draft.comment
            if draft.target in _FLOORS:
                state.floors[draft.target, draft.value] = Floor(
                    draft.target, entry.sequence, entry.revoke_time, draft.reason
                )
            if draft.verdict is not None:
                state.audit.add([draft.verdict])
            if draft.event is not None:
                cursor = str(Cursor(state.head.epoch, entry.sequence))
                fields = {**draft.event.fields, "cursor": cursor}
                state.audit.add([structs.replace(draft.event, fields=fields)])
            entries.append(entry)
        return replace(state.head, follows=follows), entries

    async def head(self) -> LogHead:
        """See `RevocationLog.head`."""
        return replace(self._state.head, read_time=self._state.clock.now())

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """See `RevocationLog.read`."""
        entries = self._state.entries
        start = bisect.bisect_right(entries, after, key=lambda entry: entry.sequence)
        return entries[start : start + limit]

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """See `RevocationLog.renew`."""
        state = self._state
        if state.head.epoch != replaces or state.head.sequence >= sequence:
            return None
        keys: list[Revocation] = []
        compacted = state.head.compacted
        if not keep:
            keys = [entry for entry in state.entries if entry.target is RevocationTarget.KEY]
            state.entries.clear()
            compacted = sequence - 1
        state.head = replace(state.head, epoch=epoch, sequence=sequence - 1, compacted=compacted)
        state.audit.renewals += 1
        await self.append([draft])
        state.head = replace(state.head, awaited=0)
        for number, entry in enumerate(keys, sequence + 1):
            state.entries.append(replace(entry, sequence=number))
        state.head = replace(state.head, sequence=sequence + len(keys), newest=state.entries[-1].revoke_time)
        return state.head

    async def compact(self, now: float, limit: int) -> int:
        """See `RevocationLog.compact`."""
        state = self._state
        count = 0
        for entry in state.entries[:limit]:
            if entry.expire_time >= micro(now):
                break
            state.head = replace(state.head, compacted=entry.sequence)
            count += 1
        del state.entries[:count]
        return count

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """See `RevocationLog.purge_floors`."""
        floors = self._state.floors
        named = sorted(floor for floor in floors if floor[0] is not RevocationTarget.EVERYTHING)
        looked_at = [floor for floor in named if after is None or floor > after][:limit]
        gone = [
            floor
            for floor in looked_at
            if floors[floor].raise_time < micro(before) and not self._is_above(floor)
        ]
        for floor in gone:
            del floors[floor]
        return len(gone), looked_at[-1] if len(looked_at) == limit else None

    def _is_above(self, floor: tuple[RevocationTarget, str]) -> bool:
        """Return whether a session is below a floor."""
        target, value = floor
        sequence = self._state.floors[floor].sequence
        return any(
            session.revision < sequence
            and value == (session.subject if target is RevocationTarget.SUBJECT else session.client_id)
            for session in self._state.sessions.values()
        )

    def _revoke_session(self, draft: RevocationDraft) -> bool:
        try:
            row = self._state.sessions.get(UUID(draft.value))
        except ValueError:
            return False
        if row is None or row.revoke_time is not None:
            return False
        self._state.sessions[row.id] = replace(
            row, revoke_time=micro(draft.revoke_time), revoke_reason=draft.reason
        )
        return True

    def _revoke_key(self, draft: RevocationDraft) -> bool:
        key = self._state.signing_keys.get(draft.value)
        if key is None or key.state is SigningKeyState.REVOKED:
            return False
        self._state.signing_keys[key.key_id] = replace(
            key, state=SigningKeyState.REVOKED, revoke_time=micro(draft.revoke_time)
        )
        self._state.head = replace(self._state.head, key_revision=self._state.head.key_revision + 1)
        return True


class MemoryKeyStore:
    """Implements `core.keys.store.KeyStore`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def load(self) -> StoredKeys:
        """See `KeyStore.load`."""
        signing = sorted(self._state.signing_keys.values(), key=lambda key: (key.create_time, key.key_id))
        mac = sorted(self._state.mac_keys.values(), key=lambda key: key.version)
        return StoredKeys(self._state.head.key_revision, signing, mac)

    async def save(
        self,
        expected_revision: int,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        *,
        deleted_key_ids: Sequence[str] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `KeyStore.save`."""
        state = self._state
        if state.head.key_revision != expected_revision:
            return False
        state.head = replace(state.head, key_revision=expected_revision + 1)
        for key in signing_keys:
            state.signing_keys[key.key_id] = replace(
                key,
                create_time=micro(key.create_time),
                activate_time=_micro_or_none(key.activate_time),
                retire_time=_micro_or_none(key.retire_time),
                revoke_time=_micro_or_none(key.revoke_time),
            )
        for mac_key in mac_keys:
            state.mac_keys[mac_key.version] = replace(mac_key, create_time=micro(mac_key.create_time))
        for key_id in deleted_key_ids:
            state.signing_keys.pop(key_id, None)
        state.audit.add(events)
        return True


class MemoryLeaseStore:
    """Implements `core.leases.LeaseStore`."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._leases: Final[dict[str, tuple[str, float]]] = {}
        self._noted: Final[dict[str, float]] = {}

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        """See `LeaseStore.acquire`."""
        now = self._clock.monotonic()
        other, until = self._leases.get(name, (holder, 0.0))
        if other != holder and until > now:
            return False
        self._leases[name] = (holder, now + ttl)
        return True

    async def release(self, name: str, holder: str) -> None:
        """See `LeaseStore.release`."""
        now = self._clock.monotonic()
        if self._leases.get(name, ("", 0.0))[0] == holder:
            self._leases[name] = (holder, min(now, self._leases[name][1]))

    async def holders(self) -> Mapping[str, str]:
        """See `LeaseStore.holders`."""
        now = self._clock.monotonic()
        return {name: holder for name, (holder, until) in self._leases.items() if until > now}

    async def earliest(self, name: str, time: float) -> float:
        """See `LeaseStore.earliest`."""
        self._noted[name] = min(micro(time), self._noted.get(name, micro(time)))
        return self._noted[name]

    async def note(self, name: str, time: float) -> None:
        """See `LeaseStore.note`."""
        self._noted[name] = micro(time)


class MemoryNodeStore:
    """Implements `core.subscribers.node_store.NodeStore`."""

    def __init__(self, clock: Clock, state: State) -> None:
        self._clock: Final = clock
        self._state: Final = state
        self._reports: Final[dict[str, tuple[float, NodeReport]]] = {}
        self._lists: Final[dict[str, tuple[float, SubscriberList]]] = {}

    async def report(self, report: NodeReport) -> None:
        """See `NodeStore.report`."""
        self._reports[report.node_id] = (self._clock.monotonic(), report)

    async def reports(self, max_age: float, *, purge: bool = True) -> Sequence[NodeReport]:
        """See `NodeStore.reports`."""
        now = self._clock.monotonic()
        stale = [n for n, (written, _) in self._reports.items() if now - written > max_age]
        kept = sorted(pair for pair in self._reports.items() if pair[0] not in stale)
        for node_id in stale if purge else ():
            await self.forget(node_id)
        listed = {node_id: now - written for node_id, (written, _) in self._lists.items()}
        return [
            replace(report, age=now - written, list_age=listed.get(node_id))
            for node_id, (written, report) in kept
        ]

    async def forget(self, node_id: str) -> None:
        """See `NodeStore.forget`."""
        self._reports.pop(node_id, None)
        self._lists.pop(node_id, None)

    async def put_list(self, node_id: str, subscribers: SubscriberList | None) -> None:
        """See `NodeStore.put_list`."""
        if subscribers is None:
            self._lists.pop(node_id, None)
        elif node_id in self._reports:
            self._lists[node_id] = (self._clock.monotonic(), subscribers)

    async def lists(self, node_ids: Collection[str]) -> Mapping[str, SubscriberList]:
        """See `NodeStore.lists`."""
        now = self._clock.monotonic()
        return {
            node_id: replace(found, age=now - written)
            for node_id, (written, found) in self._lists.items()
            if node_id in node_ids
        }

    async def request(self, sequence: int) -> None:
        """See `NodeStore.request`."""
        head = self._state.head
        self._state.head = replace(head, awaited=max(sequence, head.awaited))


class MemoryUsedIds:
    """Identifiers that were used. See `UsedIds`."""

    def __init__(
        self,
        expire_times: dict[tuple[str, str], float] | None = None,
        add_events: Callable[[Sequence[AuditEvent]], None] = lambda _: None,
    ) -> None:
        """`expire_times`: by scope and identifier, shared with other stores. `add_events` writes the rows of events."""
        self._expire_times: Final = {} if expire_times is None else expire_times
        self._add_events: Final = add_events

    async def use(
        self,
        scope: str,
        identifier: str,
        expire_time: float,
        now: float,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `UsedIds.use`."""
        for key in [key for key, end in self._expire_times.items() if end < now - 60]:
            del self._expire_times[key]
        if (scope, identifier) in self._expire_times:
            return False
        self._expire_times[scope, identifier] = expire_time
        self._add_events(events)
        return True

    async def was_used(self, scope: str, identifier: str) -> bool:
        """See `UsedIds.was_used`."""
        return (scope, identifier) in self._expire_times


class MemoryDeviceRequests:
    """Implements `core.oauth.grants.device_requests.DeviceRequests`."""

    def __init__(self) -> None:
        self._requests: dict[bytes, DeviceRequest] = {}

    def approved_by(self, subject: str) -> list[DeviceRequest]:
        """Return the requests that a subject has approved."""
        return [
            each
            for each in self._requests.values()
            if each.decision is not None
            and each.decision.approval is not None
            and each.decision.approval.subject == subject
        ]

    async def add(self, request: DeviceRequest) -> bool:
        """See `DeviceRequests.add`."""
        key = request.user_code_digest
        return self._requests.setdefault(key, request) is request

    async def find(self, user_code_digest: bytes) -> DeviceRequest | None:
        """See `DeviceRequests.find`."""
        return self._requests.get(user_code_digest)

    async def decide(self, user_code_digest: bytes, decision: Decision, now: float) -> bool:
        """See `DeviceRequests.decide`."""
        request = self._requests.get(user_code_digest)
        if request is None or request.decision is not None or request.expire_time <= now:
            return False
        self._requests[user_code_digest] = structs.replace(request, decision=decision)
        return True

    async def remove(self, request: DeviceRequest) -> None:
        """See `DeviceRequests.remove`."""
        found = self._requests.get(request.user_code_digest)
        if found is not None and found.code_digest == request.code_digest:
            del self._requests[request.user_code_digest]

    async def purge(self, before: float, limit: int) -> int:
        """See `DeviceRequests.purge`."""
        ended = [key for key, each in self._requests.items() if each.expire_time < before][:limit]
        for key in ended:
            del self._requests[key]
        return len(ended)
