"""Revocation of a token by the client that presents it (RFC 7009)."""

from __future__ import annotations

from token_service.core.access.caller import Caller
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.store import SessionStore
from token_service.errors import PermissionDeniedError, SessionNotFoundError, WrongClientError
from token_service.tokens.opaque_token import OpaqueTokenError

_NOT_ITS_OWN = "the token was issued to another client"


class TokenRevocation:
    """Revokes the tokens that clients present: a JWT by its id, a refresh or session token with its whole session."""

    def __init__(self, revoker: Revoker, opaque_tokens: OpaqueTokens, sessions: SessionStore) -> None:
        self._revoker = revoker
        self._opaque_tokens = opaque_tokens
        self._sessions = sessions

    async def revoke(self, caller: Caller, token: str, now: float) -> None:
        """Revoke a token within the rights of the caller. The revocation is durable when this returns.

        A token that is unknown, malformed, expired or revoked already is a success (RFC 7009, section 2.2). For a token
        of another client this raises `WrongClientError` (section 2.1), whether the token is live or not. Raises
        `PermissionDeniedError` for a caller that may revoke nothing, `RateLimitedError` and `StoreUnavailableError`.
        """
        try:
            await self._revoker.revoke(caller, RevokeCommand(token=token), now)
        except SessionNotFoundError:
            if await self._exists(token):
                raise WrongClientError(_NOT_ITS_OWN) from None
        except PermissionDeniedError as error:
            if "bound" in error.metadata:
                raise WrongClientError(_NOT_ITS_OWN) from None
            raise

    async def _exists(self, token: str) -> bool:
        """Tell whether the session of an authentic token is known."""
        try:
            opaque = await self._opaque_tokens.read(token)
        except OpaqueTokenError:
            return False
        return await self._sessions.get(opaque.session_id) is not None
