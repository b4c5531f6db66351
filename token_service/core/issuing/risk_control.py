"""The control of risk: judges uses of sessions by the rules in force, and acts on the verdicts, for every edge.

Use cases ask before they change anything. `usual` answers without a look at the session: the statement that accepts the
use then checks in the row that its origin is that of the last use. Every other use is examined: its session is read and
judged, and the statement accepts only the row that was judged.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Final
from uuid import UUID

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.issuing.commands import RefreshCommand
from token_service.core.issuing.risk_history import history_of
from token_service.core.keys.keyring import Keyring
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import Policy
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.risk.history import after, format_history, likeness
from token_service.core.risk.observation import Observation, Use
from token_service.core.risk.verdict import RiskAction, Verdict, evidence_fields
from token_service.core.risk.watch import RiskWatch
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Judged, SessionStore
from token_service.errors import (
    AuthenticationInsufficientError,
    BindingRequiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    RiskRefusedError,
    ServiceError,
    SessionRevokedError,
    TooManyRetriesError,
    WrongClientError,
    WrongDeviceError,
    WrongKeyError,
)
from token_service.tokens.opaque_token import OpaqueToken
from token_service.tokens.revocation import RevocationReason, RevocationTarget

STEP_UP_MAX_AGE: Final = 300
"""Seconds for which an authentication of the subject meets the demand for a step-up."""
_RECORDED_AGAIN: Final = 60.0
"""Seconds after which an equal verdict about one session is recorded again, so that repeated calls can't flood the trail."""
_MAX_RECORDED: Final = 10_000
_TAG: Final = 16
"""Bytes."""
_SUSPICIOUS: Final = (
    BindingRequiredError,
    RefreshTokenInvalidError,
    TooManyRetriesError,
    WrongClientError,
    WrongDeviceError,
    WrongKeyError,
)
"""Refusals that hint at a stolen token. A session that ended is no hint."""


class RiskControl:
    """Judges and acts. Without rules `is_on` is false, and no other method may be called."""

    def __init__(
        self,
        watch: RiskWatch,
        sessions: SessionStore,
        keyring: Keyring,
        policies: Policies,
        revoker: Revoker,
        audit: Audit,
        monotonic: Callable[[], float],
    ) -> None:
        self.watch: Final = watch
        self._sessions = sessions
        self._keyring = keyring
        self._policies = policies
        self._revoker = revoker
        self._audit = audit
        self._monotonic = monotonic
        self._recorded: dict[tuple[str, str, str, RiskAction, int], float] = {}
        """Times of recorded verdicts on the monotonic clock, the oldest one first."""

    @property
    def is_on(self) -> bool:
        """Whether there are rules."""
        return self.watch.is_on

    def usual(
        self, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> Judged | None:
        """Return the judgment of a refresh from the origin of the last one; None: its session must be examined."""
        if self.watch.has_marks:
            return None
        rhythm = self.watch.rhythm
        expected = self._tag(command, presented.session_id, presented.key_version)
        version = self._next_version(presented, policy)
        return Judged(
            expected_tag=expected,
            renewed_by=inf if rhythm is None else now - policy.access_token_ttl * rhythm.part / 100,
            tag=expected
            if version == presented.key_version
            else self._tag(command, presented.session_id, version),
        )

    async def examine(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        details: SessionDetails,
        policy: Policy,
        now: float,
    ) -> Judged:
        """Judge a refresh by its session, and act. Return the judgment of an accepted one.

        Raises `RiskRefusedError`, `AuthenticationInsufficientError`, `SessionRevokedError` and `StoreUnavailableError`.
        """
        session = details.session
        is_retry = presented.generation < session.generation
        renewed = session.rotate_time if policy.rotate else session.last_use_time
        history = history_of(details, renewed, self.watch.marks_of(session.client_id, session.subject))
        observation = self._observation(
            Use.REFRESH,
            session,
            command.client_context,
            now,
            device_id=command.device_id,
            access_token_ttl=float(min(session.access_token_ttl or inf, policy.access_token_ttl)),
            # A retry gets the tokens of the renewal before it.
            history=structs.replace(history, renewed=None) if is_retry else history,
        )
        await self._judge(actor, observation, session, command.client_context)
        later = after(observation, self.watch.rhythm)
        return Judged(
            expected_tag=details.origin_tag,
            # Without a tag the next use is examined too, which ends or continues the row of quick renewals.
            tag=b""
            if later.quick_renewals
            else self._tag(command, presented.session_id, self._next_version(presented, policy)),
            origins=format_history(later),
        )

    async def admit_issue(
        self, actor: Actor, *, client_id: str, subject: str, origin: Origin, now: float
    ) -> None:
        """Count and judge a request for tokens that are not those of a session yet. Raises the errors of `examine`."""
        await self.watch.count_issuance(client_id, subject)
        observation = Observation(
            use=Use.ISSUE,
            time=now,
            subject=subject,
            client_id=client_id,
            classification=self._policies.classification(client_id),
            address=origin.ip_address,
            user_agent=origin.user_agent,
            history=self.watch.marks_of(client_id, subject),
        )
        await self._judge(actor, observation, None, origin)

    async def admit_extension(self, caller: Caller, session_id: UUID, origin: Origin, now: float) -> None:
        """Judge an extension of a session, if there are rules. Raises the errors of `examine`."""
        if not self.is_on:
            return
        details = await self._sessions.describe(session_id)
        if details is None:
            return  # the extension fails
        session = details.session
        marks = self.watch.marks_of(session.client_id, session.subject)
        history = history_of(details, session.rotate_time, marks)
        observation = self._observation(Use.EXTEND, session, origin, now, history=history)
        await self._judge(caller.actor(), observation, session, origin)

    async def count_refresh(self, session: Session) -> None:
        """Count a refresh that was accepted, after its session is known."""
        await self.watch.count_issuance(session.client_id, session.subject)

    async def note_failure(self, session: Session, failure: ServiceError) -> None:
        """Remember a refused use of a session, if it hints at a stolen token."""
        if isinstance(failure, RefreshTokenReusedError):
            self.watch.note_reuse(session.client_id, session.subject)
        elif isinstance(failure, _SUSPICIOUS):
            await self.watch.count_refusal(session.client_id, session.subject)

    def _observation(
        self, use: Use, session: Session, origin: Origin, now: float, **known: object
    ) -> Observation:
        observation = Observation(
            use=use,
            time=now,
            session_id=str(session.id),
            subject=session.subject,
            client_id=session.client_id,
            classification=self._policies.classification(session.client_id),
            address=origin.ip_address,
            user_agent=origin.user_agent,
        )
        return structs.replace(observation, **known)

    async def _judge(
        self, actor: Actor, observation: Observation, session: Session | None, origin: Origin
    ) -> None:
        verdict = self.watch.judge(observation)
        if verdict.action is RiskAction.NONE:
            return
        if verdict.action is RiskAction.STEP_UP and _is_fresh(session, observation.time):
            verdict = structs.replace(verdict, action=RiskAction.ALERT)
        event = AuditEvent(
            action=Action.RISK_DETECTED,
            actor=actor,
            target=_target(observation),
            outcome=Outcome.DENIED if verdict.acts and verdict.action.refuses else Outcome.SUCCESS,
            origin=origin,
            fields=verdict.fields(),
        )
        if not self._is_new(observation, verdict):
            pass  # its event and, without a session to revoke, its revocation are a moment old
        elif not verdict.acts or not await self._revoke(actor, observation, verdict, event):
            self._audit.record_alone(event)
        if not verdict.acts or not verdict.action.refuses:
            return
        if verdict.action is RiskAction.STEP_UP:
            raise AuthenticationInsufficientError(
                "the rules about risk demand a new authentication of the user: send the user to /authorize with max_age "
                f"of {STEP_UP_MAX_AGE} or less and the ID token as id_token_hint",
                metadata={"max_age": str(STEP_UP_MAX_AGE)},
            )
        if verdict.action is not RiskAction.REFUSE and session is not None:
            raise SessionRevokedError
        await self.watch.count_refusal(observation.client_id, observation.subject)
        raise RiskRefusedError

    async def _revoke(
        self, actor: Actor, observation: Observation, verdict: Verdict, event: AuditEvent
    ) -> bool:
        """Revoke what a verdict says, and write its event in the same transaction. False: there is nothing to revoke."""
        if verdict.action is RiskAction.REVOKE_SUBJECT:
            target, value = RevocationTarget.SUBJECT, observation.subject
        elif verdict.action is RiskAction.REVOKE_SESSION and observation.session_id:
            target, value = RevocationTarget.SESSION, observation.session_id
        else:
            return False
        reason = RevocationReason.COMPROMISED
        draft = draft_of(target, value, observation.time, reason=reason)
        fields = {"cause": "risk", "score": verdict.score, "evidence": evidence_fields(verdict.evidence)}
        revoked = structs.replace(event_of(draft, actor, event.origin), fields=fields)
        cursor = await self._revoker.append([replace(draft, verdict=event, event=revoked)])
        self._audit.record(event)
        self._audit.record(structs.replace(revoked, fields={**fields, "cursor": str(cursor)}))
        return True

    def _is_new(self, observation: Observation, verdict: Verdict) -> bool:
        """Tell whether no equal verdict was recorded a moment ago. One that revokes a session is always new."""
        if observation.session_id and verdict.acts and verdict.action.severity > RiskAction.REFUSE.severity:
            return True
        key = (
            observation.session_id,
            observation.subject,
            observation.client_id,
            verdict.action,
            verdict.score,
        )
        now = self._monotonic()
        if now < self._recorded.get(key, -inf) + _RECORDED_AGAIN:
            return False
        self._recorded.pop(key, None)
        if len(self._recorded) >= _MAX_RECORDED:
            del self._recorded[next(iter(self._recorded))]
        self._recorded[key] = now
        return True

    def _next_version(self, presented: OpaqueToken, policy: Policy) -> int:
        """Return the version of the refresh token that the session has after a refresh."""
        return self._keyring.mac_keys.active if policy.rotate else presented.key_version

    def _tag(self, command: RefreshCommand, session_id: UUID, version: int) -> bytes:
        """Return the tag of the origin of a refresh: equal for alike origins, and without the key nothing else.

        `version` is that of the refresh token that the session has then, so the key is always known.
        """
        origin = command.client_context
        like = likeness(origin.ip_address, origin.user_agent, command.device_id)
        text = repr(("origin", session_id.hex, like)).encode("utf-8", "replace")
        return hmac.digest(self._keyring.mac_keys.key(version).reveal(), text, "sha256")[:_TAG]


def _is_fresh(session: Session | None, now: float) -> bool:
    """Tell whether the subject of a session was authenticated a moment ago, and since its last renewal.

    The authentication that opened the session says nothing about a use from elsewhere a minute later.
    """
    context = None if session is None else session.auth_context
    if session is None or context is None or context.auth_time is None:
        return False
    return session.rotate_time < context.auth_time and now - context.auth_time <= STEP_UP_MAX_AGE


def _target(observation: Observation) -> Target:
    kind, id_ = (
        ("session", observation.session_id) if observation.session_id else ("subject", observation.subject)
    )
    return Target(kind, id_, observation.subject, observation.session_id, observation.client_id)
