"""Revocations that another system causes: a logout or a security event at an identity provider.

The other system names a session of its own, or a subject. Which sessions here that concerns, and that no session is
revoked that began later than what the other system reports, is decided here for every way such a report arrives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from uuid import UUID

from msgspec import structs

from token_service.core.events.audit import Audit
from token_service.core.events.event import NO_ORIGIN, Actor, Origin
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import SessionFilter, SessionPosition, SessionStore
from token_service.tokens.revocation import RevocationReason, RevocationTarget

_PAGE: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The report that causes revocations, as the revocation log and the audit trail have it."""

    actor: Actor
    reason: RevocationReason
    comment: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each audit event."""
    origin: Origin = NO_ORIGIN


class ExternalRevocations:
    """Finds and revokes the sessions that a report of another system concerns."""

    def __init__(self, sessions: SessionStore, revoker: Revoker, audit: Audit) -> None:
        self._sessions = sessions
        self._revoker = revoker
        self._audit = audit

    async def of_upstream_session(
        self, upstream: str, upstream_session: str, *, live_at: float
    ) -> Sequence[UUID]:
        """Return the live sessions that came of one session at an upstream."""
        most = _PAGE
        while True:
            found = await self._sessions.by_upstream(upstream, upstream_session, live_at=live_at, limit=most)
            if len(found) < most:
                return found
            most *= 4

    async def described(self, sessions: Sequence[UUID], *, before: float) -> Sequence[Session]:
        """Return the rows of the sessions that began before a time or at it."""
        found = [await self._sessions.get(each) for each in sessions]
        return [each for each in found if each is not None and each.create_time <= before]

    async def of_subject(
        self, subject: str, *, live_at: float, before: float, upstream: str = "", personal: bool = False
    ) -> Sequence[UUID]:
        """Return the live sessions of a subject that began before a time or at it.

        `upstream`: only those that came of it. `personal`: personal access tokens instead of logins.
        """
        found: list[UUID] = []
        after: SessionPosition | None = None
        while True:
            page = await self._sessions.list(
                SessionFilter.SUBJECT, subject, live_at=live_at, limit=_PAGE, after=after, personal=personal
            )
            sessions = [details.session for details in page]
            found += [
                each.id for each in sessions if each.create_time <= before and upstream in {"", each.upstream}
            ]
            if len(page) < _PAGE:
                return found
            after = SessionPosition(sessions[-1].create_time, sessions[-1].id)

    async def revoke_sessions(self, sessions: Sequence[UUID], cause: Cause, now: float) -> None:
        """Revoke sessions, durably. Sessions that are revoked already are left out of the log."""
        for start in range(0, len(sessions), _PAGE):
            targets = [(RevocationTarget.SESSION, str(each)) for each in sessions[start : start + _PAGE]]
            await self._append(targets, cause, now)

    async def revoke_subject(self, subject: str, cause: Cause, now: float, *, before: float) -> None:
        """Revoke all that a subject holds, durably, except sessions that began after `before`.

        Without such a session this is one entry of the log, which also ends tokens without a session. It ends a session
        that begins at the same moment too. With such a session the earlier ones are revoked one by one.
        """
        if not await self._has_later(subject, now, before):
            await self._append([(RevocationTarget.SUBJECT, subject)], cause, now)
            return
        for personal in (False, True):
            found = await self.of_subject(subject, live_at=now, before=before, personal=personal)
            await self.revoke_sessions(found, cause, now)

    async def _has_later(self, subject: str, now: float, before: float) -> bool:
        for personal in (False, True):
            newest = await self._sessions.list(
                SessionFilter.SUBJECT, subject, live_at=now, limit=1, after=None, personal=personal
            )
            if newest and newest[0].session.create_time > before:
                return True
        return False

    async def _append(
        self, targets: Sequence[tuple[RevocationTarget, str]], cause: Cause, now: float
    ) -> None:
        drafts = [
            draft_of(target, value, now, reason=cause.reason, comment=cause.comment)
            for target, value in targets
        ]
        events = [
            structs.replace(event_of(draft, cause.actor, cause.origin), fields=cause.fields)
            for draft in drafts
        ]
        await self._revoker.append(
            [replace(draft, event=event) for draft, event in zip(drafts, events, strict=True)]
        )
        for event in events:
            self._audit.record(event)
