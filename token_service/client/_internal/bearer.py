"""Bearer tokens in requests: parsing, and the claims of the request (RFC 6750)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.claims import VerifiedClaims

CLAIMS: Final[ContextVar[VerifiedClaims | None]] = ContextVar("token_service_claims")
"""The claims of the request being served; None or unset: it has none."""


def current_claims() -> VerifiedClaims:
    """Return the claims of the request being served.

    Raises `LookupError` for a public request and outside of a checked request.
    """
    claims = CLAIMS.get()
    if claims is None:
        raise LookupError("the request being served has no claims: it is public")
    return claims


def bearer_token(header: str) -> str | None:
    """Return the token of an `Authorization` header, or None for another scheme or a malformed header."""
    scheme, space, token = header.partition(" ")
    token = token.strip(" ")
    if not space or scheme.lower() != "bearer" or not token or " " in token:
        return None
    return token


def require_bearer(claims: VerifiedClaims) -> None:
    """Raise `InvalidTokenError` for a token bound to a key.

    Such a token proves nothing without a proof of the key (RFC 9449, section 7.2; RFC 8705, section 3).
    """
    if claims.confirmation:
        raise InvalidTokenError(
            InvalidReason.PROOF_MISSING,
            "the token is bound to a key, and the request does not prove possession of it",
        )
