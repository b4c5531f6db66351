"""The answer to a superseded refresh token after its grace period: a race of one user's programs, or theft.

RFC 9700, section 4.14.2, demands that a reuse revokes the family, because the service can't tell who the thief is. A race
gets no token either. It only postpones the revocation, and only under all of these conditions:

- the policy has a `refresh_race_window`, and the session was last renewed no longer ago than that after the grace period;
- the origin of the last lawful use is known, and the token comes from the same network, with the same user agent;
- the device and the key of the session are proved, as for every use;
- the session has had few races.

A thief elsewhere never meets them. One in the same network with the same user agent gains the window, but no token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from token_service.core.access.rates import network_of
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.issuing.commands import RefreshCommand
from token_service.core.policies.policy import Policy, ReuseResponse
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Race, SessionStore
from token_service.errors import RefreshRaceError, RefreshTokenReusedError, ServiceError
from token_service.tokens.opaque_token import OpaqueToken
from token_service.tokens.revocation import RevocationReason, RevocationTarget

MAX_RACES: Final = 5
"""Races of one session. The next one counts as theft."""

_ATTEMPTS: Final = 3
"""Attempts to count a race while other calls renew the session."""


class ReuseAnswers:
    """Answers uses of superseded refresh tokens."""

    def __init__(self, sessions: SessionStore, revoker: Revoker, audit: Audit) -> None:
        self._sessions = sessions
        self._revoker = revoker
        self._audit = audit

    async def answer(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session,
        policy: Policy,
        now: float,
    ) -> ServiceError:
        """Return the error for the caller. Theft has revoked the family, and everything about it is durable."""
        if await self._is_race(actor, command, presented, session, policy, now):
            return RefreshRaceError()
        await self._punish(actor, command, presented, session, policy, now)
        return RefreshTokenReusedError()

    async def _is_race(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session,
        policy: Policy,
        now: float,
    ) -> bool:
        if not policy.refresh_race_window:
            return False
        event = AuditEvent(
            action=Action.REFRESH_TOKEN_RACED,
            actor=actor,
            target=_target(session),
            outcome=Outcome.DENIED,
            origin=command.client_context,
            fields=_generations(presented, session),
        )
        window = policy.grace_period + policy.refresh_race_window
        for _ in range(_ATTEMPTS):
            details = await self._sessions.describe(session.id)
            if details is None or now - details.session.rotate_time >= window:
                return False
            if not _is_same(details.last_used_from, command.client_context):
                return False
            # The row must be the one whose origin was compared.
            race = Race(
                session_id=session.id, generation=details.session.generation, max_races=MAX_RACES, now=now
            )
            if await self._sessions.race(race, [event]):
                self._audit.record(event)
                return True
        return False

    async def _punish(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session,
        policy: Policy,
        now: float,
    ) -> None:
        """Revoke the family, append its log entry and write the audit events in one transaction."""
        event = AuditEvent(
            action=Action.REFRESH_TOKEN_REUSED,
            actor=actor,
            target=_target(session),
            origin=command.client_context,
            fields={**_generations(presented, session), "response": policy.reuse_response.value},
        )
        reason = RevocationReason.REFRESH_TOKEN_REUSED
        drafts = [
            replace(draft_of(RevocationTarget.SESSION, str(session.id), now, reason=reason), event=event)
        ]
        if policy.reuse_response is ReuseResponse.SUBJECT:
            draft = draft_of(RevocationTarget.SUBJECT, session.subject, now, reason=reason)
            drafts.append(replace(draft, event=event_of(draft, actor, command.client_context)))
        await self._revoker.append(drafts)
        self._audit.record(event)


def _is_same(lawful: Origin, origin: Origin) -> bool:
    """Tell whether an origin is known to be that of the last lawful use."""
    return (
        bool(origin.ip_address and origin.user_agent)
        and network_of(origin.ip_address) == network_of(lawful.ip_address)
        and origin.user_agent == lawful.user_agent
    )


def _target(session: Session) -> Target:
    return Target("refresh_token", "", session.subject, str(session.id), session.client_id)


def _generations(presented: OpaqueToken, session: Session) -> dict[str, object]:
    return {"presented_generation": presented.generation, "current_generation": session.generation}
