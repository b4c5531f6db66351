"""Receives security event tokens: verifies them, revokes what they demand, and records each of them once."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from token_service.clock import Clock
from token_service.core.access.caller import Proof
from token_service.core.access.quotas import RateQuota
from token_service.core.access.used_ids import UsedIds
from token_service.core.administration.external_revocations import Cause, ExternalRevocations
from token_service.core.events.audit import Audit
from token_service.core.events.event import NO_ORIGIN, Action, Actor, AuditEvent, Origin, Target
from token_service.core.security_events.event_types import (
    EVENT_TYPES,
    STREAM_UPDATED,
    VERIFICATION,
    EventAction,
    EventType,
)
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError, refusal_of
from token_service.core.security_events.subjects import Named
from token_service.core.security_events.transmitters import ConnectedTransmitter, Transmitter
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.assertions import parse_assertion
from token_service.tokens.security_event_token import SecurityEventToken, verify_security_event_token

EVENTS_PER_MINUTE: Final = 600
"""Valid tokens that each process takes from one transmitter in a minute."""
SUBJECT_LATE: Final = 2.0
"""Seconds after an event at which a session of the subject that began is still ended: times of events are whole seconds,
and clocks differ."""
SESSION_LATE: Final = 60.0
"""The same for a session that came of the session that the event names: its login was under way when the event happened."""
_MAX_STATE: Final = 128
"""Characters of `state` and `status` that the audit trail keeps."""

logger = logging.getLogger(__name__)


class Result(StrEnum):
    """What became of an event."""

    REVOKED = "revoked"
    IGNORED = "ignored"
    """Its type is unknown, reports no danger, or is to be ignored."""
    UNMAPPED = "unmapped"
    """Its subject is none that the settings map."""
    STREAM = "stream"
    """It speaks of the stream itself."""
    REPLAYED = "replayed"
    """Its token was received before."""
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class _Planned:
    """An event of a verified token, before its revocations."""

    uri: str
    time: float
    type: EventType | None
    action: EventAction
    result: Result
    details: Mapping[str, Any]


class SecurityEventReceiver:
    """Takes the security event tokens of the configured transmitters."""

    def __init__(
        self, revocations: ExternalRevocations, used_ids: UsedIds, audit: Audit, clock: Clock
    ) -> None:
        self._revocations = revocations
        self._used_ids = used_ids
        self._audit = audit
        self._clock = clock
        self._quota = RateQuota("security events", EVENTS_PER_MINUTE, 60.0, clock.monotonic)
        self._counted: Callable[[str, Result], None] = lambda _transmitter, _result: None
        self.transmitters: Mapping[str, ConnectedTransmitter] = {}
        """The transmitters of the policy file in force, by name."""

    def on_event(self, counted: Callable[[str, Result], None]) -> None:
        """Call `counted` with the transmitter and the result of each event and of each refused token."""
        self._counted = counted

    async def take_pushed(
        self, transmitter: ConnectedTransmitter, bearer: str, token: str, origin: Origin = NO_ORIGIN
    ) -> None:
        """Receive a token that a transmitter pushes, with the bearer token that it presents; empty: none.

        Raises the errors of `receive`.
        """
        if transmitter.push_token is not None:
            expected = _digest(await transmitter.push_token())
            if not hmac.compare_digest(expected, _digest(bearer)):
                self._counted(transmitter.settings.name, Result.REFUSED)
                raise SetRefusedError(
                    SetErrorCode.AUTHENTICATION_FAILED, "the bearer token of the transmitter is not accepted"
                )
        await self.receive(transmitter, token, origin)

    async def receive(
        self, transmitter: ConnectedTransmitter, token: str, origin: Origin = NO_ORIGIN
    ) -> bool:
        """Receive a token; return whether it is the first time. Its revocations are durable when this returns.

        The token is recorded after its revocations, so a token that was interrupted is received again completely; what it
        revoked before stays revoked, and no session that began later is.

        Raises `SetRefusedError`, `OverloadedError` for too many tokens of one transmitter, `ForeignKeysUnavailableError`
        and `StoreUnavailableError`.
        """
        settings = transmitter.settings
        try:
            found = await self._verify(transmitter, token)
            named = settings.subjects.named_by(found.subject)
            planned = [
                _plan(settings, uri, event, found.time_of(event)) for uri, event in found.events.items()
            ]
        except InvalidTokenError as error:
            self._counted(settings.name, Result.REFUSED)
            raise refusal_of(error) from None
        except SetRefusedError:
            self._counted(settings.name, Result.REFUSED)
            raise
        self._quota.spend(settings.name)
        scope = f"security_event:{settings.issuer}"
        if await self._used_ids.was_used(scope, found.token_id):
            self._counted(settings.name, Result.REPLAYED)
            return False
        now = self._clock.now()
        actor = Actor("caller", f"transmitter:{settings.name}", proof=Proof.ISSUER_TOKEN.value)
        events: list[AuditEvent] = []
        for each in planned:
            fields = _fields(settings, found, each)
            result = each.result
            if each.type is not None and result is Result.REVOKED:
                cause = Cause(
                    actor=actor,
                    reason=each.type.reason,
                    comment=f"security event {each.type.name}",
                    fields={"cause": "security_event", **fields},
                    origin=origin,
                )
                result = await self._revoke(settings, named, each, cause, now)
            events.append(
                AuditEvent(
                    action=Action.SECURITY_EVENT_RECEIVED,
                    actor=actor,
                    target=Target("security_event", found.token_id, subject=named.subject),
                    origin=origin,
                    fields={**fields, "action": each.action.value, "result": result.value, **each.details},
                )
            )
        # A minute of differing clocks is added to the expiry by the store.
        expire_time = found.issue_time + settings.max_age
        is_first = await self._used_ids.use(scope, found.token_id, expire_time, now, events)
        if not is_first:  # another node received it at the same time
            self._counted(settings.name, Result.REPLAYED)
            return False
        for event in events:
            self._audit.record(event)
            self._counted(settings.name, Result(event.fields["result"]))
        return True

    async def _verify(self, transmitter: ConnectedTransmitter, token: str) -> SecurityEventToken:
        settings = transmitter.settings
        parsed = parse_assertion(token)
        if parsed.text("iss") != settings.issuer:
            raise InvalidTokenError(InvalidReason.WRONG_ISSUER, "iss is another transmitter")
        return verify_security_event_token(
            parsed,
            await transmitter.keys.keys(parsed.key_id),
            audience=settings.audience,
            algorithms=settings.algorithms,
            now=self._clock.now(),
            max_age=settings.max_age,
        )

    async def _revoke(
        self, settings: Transmitter, named: Named, event: _Planned, cause: Cause, now: float
    ) -> Result:
        """Carry out the action of an event."""
        sessions: list[UUID] = []
        subjects = {named.subject} if named.subject else set()
        if named.upstream_session and settings.upstream:
            found = await self._revocations.of_upstream_session(
                settings.upstream, named.upstream_session, live_at=now
            )
            rows = await self._revocations.described(found, before=event.time + SESSION_LATE)
            meant = [each for each in rows if named.subject in {"", each.subject}]
            sessions = [each.id for each in meant]
            subjects |= {each.subject for each in meant}
        elif not named.subject:
            return Result.UNMAPPED
        before = event.time + SUBJECT_LATE
        if event.action is EventAction.REVOKE_SUBJECT:
            for subject in sorted(subjects):
                await self._revocations.revoke_subject(subject, cause, now, before=before)
        elif not named.upstream_session or not settings.upstream:
            sessions += await self._revocations.of_subject(
                named.subject, live_at=now, before=before, upstream=settings.upstream
            )
        await self._revocations.revoke_sessions(sessions, cause, now)
        return Result.REVOKED


def _plan(settings: Transmitter, uri: str, event: Mapping[str, Any], time: float) -> _Planned:
    kind = EVENT_TYPES.get(uri)
    if kind is not None:
        action = EventAction.IGNORE if kind.is_harmless(event) else settings.actions[uri]
        result = Result.IGNORED if action is EventAction.IGNORE else Result.REVOKED
        return _Planned(uri, time, kind, action, result, {})
    if uri not in {VERIFICATION, STREAM_UPDATED}:
        return _Planned(uri, time, None, EventAction.IGNORE, Result.IGNORED, {})
    member = "state" if uri == VERIFICATION else "status"
    value = event.get(member)
    shown = value[:_MAX_STATE] if isinstance(value, str) and value.isprintable() else ""
    if uri == STREAM_UPDATED and shown != "enabled":
        logger.warning(
            "the transmitter %s has set its stream of security events to %r; ask its operator why",
            settings.name,
            shown,
        )
    return _Planned(uri, time, None, EventAction.IGNORE, Result.STREAM, {member: shown})


def _fields(settings: Transmitter, token: SecurityEventToken, event: _Planned) -> Mapping[str, Any]:
    fields = {"transmitter": settings.name, "event_type": event.uri, "jti": token.token_id}
    if token.transaction_id:
        fields["txn"] = token.transaction_id
    return fields


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
