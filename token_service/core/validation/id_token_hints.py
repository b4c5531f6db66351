"""ID tokens that clients send back as hints (OpenID Connect Core 1.0, section 3.1.2.1; RP-Initiated Logout 1.0, section 2)."""

from __future__ import annotations

from token_service.core.keys.opaque_tokens import LookForKeys
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.verifier import MAX_TOKEN_BYTES, Verifier


class IdTokenHints:
    """Reads ID tokens of this service, expired or not."""

    def __init__(self, verifier: Verifier, look_for_keys: LookForKeys) -> None:
        self._verifier = verifier
        self._look_for_keys = look_for_keys

    async def read(self, token: str) -> VerifiedClaims | None:
        """Return the claims of an authentic ID token; None for every other text.

        A hint is not worth an error: keys of old tokens are deleted. Raises `StoreUnavailableError`.
        """
        if not token or len(token) > MAX_TOKEN_BYTES:
            return None
        claims = self._verified(token)
        if claims is InvalidReason.UNKNOWN_KEY and await self._look_for_keys(None):
            claims = self._verified(token)
        return claims if isinstance(claims, VerifiedClaims) and claims.kind is TokenKind.ID else None

    def _verified(self, token: str) -> VerifiedClaims | InvalidReason:
        try:
            return self._verifier.verify(token)
        except InvalidTokenError as error:
            return error.reason
