"""Makes the security event tokens of a stream (RFC 8417): who may learn of an event, and under which names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import msgspec

from token_service.clock import Clock
from token_service.core.access.authenticator import rights_in_force
from token_service.core.clients.lookup import ClientLookup
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.event_streams.mapping import TOLD, About, Happened, happened, requested
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import EventStream, WaitingEvent
from token_service.core.event_streams.subjects import EventSubject
from token_service.core.events.chain import AuditRow
from token_service.core.events.log import StoredEvent
from token_service.core.events.store import AuditStore
from token_service.core.issuing.minter import Minter
from token_service.core.policies.rights import Permission
from token_service.core.sessions.store import SessionFilter, SessionStore
from token_service.errors import ClientDisabledError, PolicyViolationError
from token_service.tokens import base64url

_MAX_SESSIONS: Final = 200
"""Sessions of a subject that are looked at to learn whether a receiver knows it by the client of another."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Selection:
    """Decides which events of the log a stream gets.

    A receiver learns of the sessions of its own client, and of each client that a right `receive_events` covers.
    """

    def __init__(
        self,
        store: EventStreamStore,
        sessions: SessionStore,
        clients: ClientLookup,
        subjects: PairwiseSubjects,
        clock: Clock,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._clients = clients
        self._subjects = subjects
        self._clock = clock

    async def of(self, stream: EventStream, event: StoredEvent) -> list[WaitingEvent]:
        """Return the events of a stream that an event of the log becomes."""
        if event.type not in TOLD or event.row is None:
            return []
        found = happened(event.row)
        types = [] if found is None else requested(found, stream.events_requested)
        if found is None or not types:
            return []
        about = await self.completed(found.about)
        if not await self._may_learn(stream, about):
            return []
        subject = self.subject(stream, about)
        if subject is None:
            return []
        fingerprints = subject.fingerprints(stream.stream_id)
        if fingerprints and await self._store.removed_among(stream.stream_id, fingerprints):
            return []
        now = self._clock.now()
        return [
            WaitingEvent(
                token_id=_digest("jti", stream.stream_id, event.id, each),
                event_type=each,
                chain_id=event.chain_id,
                position=event.position,
                create_time=now,
            )
            for each in types
        ]

    async def completed(self, about: About) -> About:
        """Add the subject and the client of a session. The audit trail names only the session itself."""
        if not about.session_id or (about.subject and about.client_id):
            return about
        try:
            session = await self._sessions.get(UUID(about.session_id))
        except ValueError:
            session = None
        if session is None:
            return about
        return replace(about, subject=session.subject, client_id=session.client_id)

    def subject(self, stream: EventStream, about: About) -> EventSubject | None:
        """Return the subject as the receiver knows it; None: this node can't name it."""
        user = ""
        if about.subject:
            try:
                user = self._subjects.sub(stream.client_id, about.subject)
            except (ClientDisabledError, PolicyViolationError):
                return None
        return EventSubject(
            user=user,
            session=about.session_id,
            application="" if user or about.session_id else about.client_id,
            everything=about.everything,
        )

    async def _may_learn(self, stream: EventStream, about: About) -> bool:
        client = self._clients.get(stream.client_id)
        if client is None:
            return False
        if about.everything:
            return True
        rights = rights_in_force(client)

        def covers(client_id: str) -> bool:
            return client_id == stream.client_id or rights.cover_client(Permission.RECEIVE_EVENTS, client_id)

        if rights.are_unbounded(Permission.RECEIVE_EVENTS):
            return True
        if about.client_id:
            return covers(about.client_id)
        if not about.subject:
            return False  # a session that is deleted, so nothing tells whose it was
        # However many sessions the subject has elsewhere, those of the receiver's own client are found.
        own = await self._sessions.list(
            SessionFilter.SUBJECT,
            about.subject,
            live_at=None,
            limit=1,
            after=None,
            client_id=stream.client_id,
        )
        if own:
            return True
        rows = await self._sessions.list(
            SessionFilter.SUBJECT, about.subject, live_at=None, limit=_MAX_SESSIONS, after=None
        )
        return any(covers(each) for each in {row.session.client_id for row in rows})


class SecurityEventTokens:
    """Signs the waiting events of streams with the key that is active when they are sent."""

    def __init__(
        self, audit: AuditStore, selection: Selection, minter: Minter, clock: Clock, *, issuer: str
    ) -> None:
        self._audit = audit
        self._selection = selection
        self._minter = minter
        self._clock = clock
        self._issuer = issuer

    async def of(self, stream: EventStream, event: WaitingEvent) -> str | None:
        """Return the token of a waiting event; None: its personal data was erased, or its row was deleted.

        Raises `SigningUnavailableError` and `StoreUnavailableError`.
        """
        if not event.chain_id:
            identifier: Mapping[str, Any] = {"format": "opaque", "id": stream.stream_id}
            return await self._sign(stream, event, event.token_id, identifier, _decode(event.detail))
        found = await self._happened(event)
        members = None if found is None else found.events.get(event.event_type)
        if found is None or members is None:
            return None
        subject = self._selection.subject(stream, await self._selection.completed(found.about))
        if subject is None or subject == EventSubject():
            return None
        transaction = _digest("txn", stream.stream_id, f"{event.chain_id}:{event.position}")
        return await self._sign(stream, event, transaction, subject.identifier(self._issuer), members)

    async def _happened(self, event: WaitingEvent) -> Happened | None:
        rows = await self._audit.rows(event.chain_id, event.position - 1, 1)
        return happened(rows[0]) if rows and _is_at(rows[0], event) else None

    async def _sign(
        self,
        stream: EventStream,
        event: WaitingEvent,
        transaction: str,
        identifier: Mapping[str, Any],
        members: Mapping[str, Any],
    ) -> str:
        claims = {
            "iss": self._issuer,
            "aud": stream.client_id,
            "iat": int(self._clock.now()),
            "jti": event.token_id,
            "txn": transaction,
            "sub_id": identifier,
            "events": {event.event_type: members},
        }
        return await self._minter.security_event_token(claims)


def about_stream(
    event_type: str, detail: Mapping[str, str], now: float, entropy: Callable[[int], bytes]
) -> WaitingEvent:
    """Return an event about a stream itself."""
    return WaitingEvent(
        token_id=base64url.encode(entropy(16)),
        event_type=event_type,
        detail=msgspec.json.encode(detail).decode(),
        create_time=now,
    )


def _is_at(row: AuditRow, event: WaitingEvent) -> bool:
    return row.position == event.position


def _digest(*parts: str) -> str:
    """Return a name that differs for each stream, so that receivers can't compare the events of their users."""
    return base64url.encode(hashlib.sha256("\0".join(parts).encode()).digest()[:16])
