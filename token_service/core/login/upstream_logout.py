"""Logouts at an identity provider that end sessions here (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from token_service.core.access.caller import Proof
from token_service.core.access.used_ids import UsedIds
from token_service.core.administration.external_revocations import Cause, ExternalRevocations
from token_service.core.events.event import NO_ORIGIN, Actor, Origin
from token_service.core.limits import MAX_TOKEN_ID
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.upstream import Upstream
from token_service.errors import InvalidRequestError, InvalidTokenError
from token_service.tokens.assertions import UnverifiedAssertion, parse_assertion
from token_service.tokens.revocation import RevocationReason

EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LATE: Final = 60.0
"""Seconds after `iat` at which a session that began is still ended by the subject: the clocks may differ."""


class UpstreamLogout:
    """Revokes the sessions that a logout token names."""

    def __init__(
        self,
        upstreams: Callable[[], Mapping[str, Upstream]],
        revocations: ExternalRevocations,
        used_ids: UsedIds,
    ) -> None:
        self._upstreams = upstreams
        self._revocations = revocations
        self._used_ids = used_ids

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
            before = float(claims["iat"]) + LATE
            found = await self._revocations.of_subject(subject, live_at=now, before=before, upstream=name)
        else:
            found = await self._revocations.of_upstream_session(name, claims["sid"], live_at=now)
        cause = Cause(
            actor=Actor("caller", f"upstream:{name}", proof=Proof.ISSUER_TOKEN.value),
            reason=RevocationReason.LOGOUT,
            comment="logout at the identity provider",
            origin=origin,
        )
        await self._revocations.revoke_sessions(found, cause, now)
        if not await self._used_ids.use(f"logout:{name}", claims["jti"], float(claims["exp"]), now):
            raise InvalidRequestError.of("logout_token", "was used before")
        return len(found)


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
