"""Logouts at an identity provider that end sessions here (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from token_service.core.access.caller import Proof
from token_service.core.access.used_ids import UsedIds
from token_service.core.events.audit import Audit
from token_service.core.events.event import NO_ORIGIN, Actor, Origin
from token_service.core.limits import MAX_TOKEN_ID
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.upstream import Upstream
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.store import SessionFilter, SessionPosition, SessionStore
from token_service.errors import InvalidRequestError, InvalidTokenError
from token_service.tokens.assertions import UnverifiedAssertion, parse_assertion
from token_service.tokens.revocation import RevocationReason, RevocationTarget

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LATE: Final = 60.0
"""Seconds after `iat` at which a session that began is still ended by the subject: the clocks may differ."""
_PAGE: Final = 100


class UpstreamLogout:
    """Revokes the sessions that a logout token names."""

    def __init__(
        self,
        upstreams: Callable[[], Mapping[str, Upstream]],
        sessions: SessionStore,
        revoker: Revoker,
        used_ids: UsedIds,
        audit: Audit,
    ) -> None:
        self._upstreams = upstreams
        self._sessions = sessions
        self._revoker = revoker
        self._used_ids = used_ids
        self._audit = audit

    async def logout(self, name: str, logout_token: str, now: float, origin: Origin = NO_ORIGIN) -> int:
        """Revoke the sessions that began at the upstream `name` and that a token of its provider names; return how many.

        With `sid`, these are the sessions that came of this session there; else those of the subject. The use of the
        token is recorded last, so that the provider may repeat a logout that failed here. A token that is used again
        ends no session that began later.

        Raises `InvalidRequestError`, `ForeignKeysUnavailableError`, `StoreUnavailableError`.
        """
        upstream = self._upstreams().get(name)
        if not isinstance(upstream, OidcUpstream):
            raise InvalidRequestError.of("upstream", "names no identity provider of this service")
        try:
            parsed = parse_assertion(logout_token)
            claims = await upstream.verify_logout_token(parsed, now)
            _check(parsed, claims)
            subject = "" if claims.get("sid") else _subject(upstream, claims["sub"])
        except InvalidTokenError as error:
            raise InvalidRequestError.of("logout_token", error.message) from None
        except ValueError as error:
            raise InvalidRequestError.of("logout_token", str(error)) from None
        if subject:
            found = await self._of_subject(name, subject, float(claims["iat"]) + LATE, now)
        else:
            found = await self._of_session(name, claims["sid"], now)
        for start in range(0, len(found), _PAGE):
            await self._revoke(name, found[start : start + _PAGE], now, origin)
        if not await self._used_ids.use(f"logout:{name}", claims["jti"], float(claims["exp"]), now):
            raise InvalidRequestError.of("logout_token", "was used before")
        return len(found)

    async def _of_session(self, name: str, session: str, now: float) -> Sequence[UUID]:
        """Return the live sessions here that came of one session at an upstream."""
        most = _PAGE
        while True:
            found = await self._sessions.by_upstream(name, session, live_at=now, limit=most)
            if len(found) < most:
                return found
            most *= 4

    async def _of_subject(self, name: str, subject: str, before: float, now: float) -> Sequence[UUID]:
        """Return the live sessions of a subject that came of an upstream before a time."""
        found: list[UUID] = []
        after: SessionPosition | None = None
        while True:
            page = await self._sessions.list(
                SessionFilter.SUBJECT, subject, live_at=now, limit=_PAGE, after=after
            )
            sessions = [details.session for details in page]
            found += [each.id for each in sessions if each.upstream == name and each.create_time <= before]
            if len(page) < _PAGE:
                return found
            after = SessionPosition(sessions[-1].create_time, sessions[-1].id)

    async def _revoke(self, name: str, sessions: Sequence[UUID], now: float, origin: Origin) -> None:
        drafts = [
            draft_of(
                RevocationTarget.SESSION,
                str(each),
                now,
                reason=RevocationReason.LOGOUT,
                comment="logout at the identity provider",
            )
            for each in sessions
        ]
        actor = Actor("caller", f"upstream:{name}", proof=Proof.ISSUER_TOKEN.value)
        events = [event_of(draft, actor, origin) for draft in drafts]
        await self._revoker.append(
            [replace(draft, event=event) for draft, event in zip(drafts, events, strict=True)]
        )
        for event in events:
            self._audit.record(event)


def _check(parsed: UnverifiedAssertion, claims: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless verified claims are those of a logout token (section 2.6)."""
    if not isinstance(claims.get("iat"), int | float):
        raise ValueError("iat is missing")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise ValueError("events is no logout")
    if "nonce" in claims:
        raise ValueError("it has a nonce, as only an ID token may")
    if not 0 < len(parsed.text("jti")) <= MAX_TOKEN_ID:
        raise ValueError(f"jti is missing or longer than {MAX_TOKEN_ID} characters")
    for name in ("sub", "sid"):
        if name in claims and not parsed.text(name):
            raise ValueError(f"{name} is no text")
    if "sub" not in claims and "sid" not in claims:
        raise ValueError("it has neither sub nor sid")


def _subject(upstream: OidcUpstream, subject: str) -> str:
    """Return the subject here that the provider calls `subject`."""
    template = upstream.settings.subject
    if template.claims != {"sub"}:
        raise ValueError("it has no sid, and the subjects of this upstream do not follow from sub alone")
    return template.of({"sub": subject})
