"""Validation of the JWTs that the provider signs for this client: ID tokens and logout tokens."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.assertions import audiences, parse_assertion, verify_assertion
from token_service.tokens.claims import malformed
from token_service.tokens.key_set import KeySet

MAX_ID_TOKEN_LIFETIME: Final = 31 * 86400.0
"""Seconds until `exp` of an ID token."""
MAX_LOGOUT_TOKEN_LIFETIME: Final = 600.0
"""Seconds until `exp` of a logout token, and for which its `jti` is remembered."""
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_MAX_TEXT: Final = 255


@dataclass(frozen=True, slots=True)
class Expected:
    """What every token of the provider must say."""

    issuer: str
    client_id: str


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """The claims of a valid logout token."""

    token_id: str
    expire_time: float
    subject: str
    sid: str


def id_token_claims(
    token: str, keys: KeySet, expected: Expected, *, nonce: str | None, now: float
) -> dict[str, Any]:
    """Return the claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7).

    `nonce`: of the authorization request; None for an ID token that comes with a refresh, which needs none. Raises
    `InvalidTokenError`.
    """
    claims = _verified(token, keys, expected, MAX_ID_TOKEN_LIFETIME, ("JWT",), now)
    if not _text(claims, "sub"):
        raise malformed("sub is missing")
    if "iat" not in claims:
        raise malformed("iat is missing")
    if claims.get("azp", expected.client_id) != expected.client_id:
        raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE, "azp is another client")
    if nonce is not None and not hmac.compare_digest(_text(claims, "nonce").encode(), nonce.encode()):
        raise malformed("nonce is not the one of this login")
    return claims


def logout_token_claims(token: str, keys: KeySet, expected: Expected, *, now: float) -> LogoutToken:
    """Return the claims of a logout token (OpenID Connect Back-Channel Logout 1.0, section 2.6), but not check `jti`.

    Raises `InvalidTokenError`.
    """
    claims = _verified(token, keys, expected, MAX_LOGOUT_TOKEN_LIFETIME, ("logout+jwt", "JWT"), now)
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, "events has no logout")
    if "nonce" in claims:
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, "a logout token has no nonce")
    if "iat" not in claims:
        raise malformed("iat is missing")
    if now - claims["iat"] > MAX_LOGOUT_TOKEN_LIFETIME:
        raise InvalidTokenError(InvalidReason.EXPIRED, "iat is too long ago")
    for name in ("sub", "sid"):
        if name in claims and not _text(claims, name):
            raise malformed(f"{name} is not a text of 1 to {_MAX_TEXT} characters")
    subject, sid, token_id = (_text(claims, name) for name in ("sub", "sid", "jti"))
    if not (subject or sid):
        raise malformed("neither sub nor sid")
    if not token_id:
        raise malformed("jti is missing")
    return LogoutToken(token_id, float(claims["exp"]), subject, sid)


def _verified(
    token: str, keys: KeySet, expected: Expected, lifetime: float, types: Collection[str], now: float
) -> dict[str, Any]:
    parsed = parse_assertion(token)
    claims = verify_assertion(parsed, keys, now=now, max_lifetime=lifetime, types=types)
    if claims.get("iss") != expected.issuer:
        raise InvalidTokenError(InvalidReason.WRONG_ISSUER, "iss is another issuer")
    # No other audience is trusted, so a token for several is refused.
    if audiences(claims) != (expected.client_id,):
        raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE, "aud is not this client alone")
    return claims


def _text(claims: dict[str, Any], name: str) -> str:
    """Return a claim that is a text of usable length; empty otherwise."""
    value = claims.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT else ""
