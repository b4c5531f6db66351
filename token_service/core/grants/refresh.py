"""The refresh token grant: a client exchanges its refresh token (RFC 6749, section 6)."""

from __future__ import annotations

from token_service.core.access.caller import Caller
from token_service.core.clients.client import REFRESH_TOKEN
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.issuing.commands import IssuedTokens, RefreshCommand
from token_service.core.issuing.refresher import Refresher


class RefreshGrant:
    """Refreshes the tokens of a session of the client."""

    def __init__(self, registration: Registration, refresher: Refresher) -> None:
        self._registration = registration
        self._refresher = refresher

    async def grant(
        self, caller: Caller, request: GrantRequest, refresh_token: str, device_id: str, now: float
    ) -> IssuedTokens:
        """Exchange a refresh token; `device_id` is that of its session, or empty.

        A bound session needs a proof of its key. The access token of another session is bound to the key that the client
        proves now. Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError` and the errors of `Refresher.refresh`
        and `ProvedKeys.confirmation`.
        """
        client = self._registration.admit(caller, REFRESH_TOKEN)
        command = RefreshCommand(
            refresh_token=refresh_token,
            client_id=client.client_id,
            device_id=device_id,
            scopes=request.scopes,
            audience=request.audience,
            client_context=request.origin,
            keys=request.keys,
            confirmation=request.keys.confirmation(client),
        )
        return await self._refresher.refresh(caller, command, now)
