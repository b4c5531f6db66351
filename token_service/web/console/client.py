"""The client of this service's own code flow that the console is. Codes and tokens are exchanged in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from token_service.core.access.authenticator import public_caller
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN, Client, ClientState
from token_service.core.clients.lookup import ClientLookup
from token_service.core.events.event import Origin
from token_service.core.grants.code import CodeGrant
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.refresh import RefreshGrant
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.policies.rights import Permission
from token_service.core.revocation.token_revocation import TokenRevocation
from token_service.core.validation.userinfo import OPENID
from token_service.errors import ClientNotFoundError, GrantTypeNotAllowedError

SCOPES: Final = (OPENID, *(permission.value for permission in Permission))
"""The scopes that a login asks for, as far as the client is registered for them."""


class ConsoleClient:
    """The registered client of the console."""

    def __init__(
        self,
        client_id: str,
        redirect_uri: str,
        clients: ClientLookup,
        grants: tuple[CodeGrant, RefreshGrant],
        revocation: TokenRevocation,
        now: Callable[[], float],
    ) -> None:
        self.client_id: Final = client_id
        self.redirect_uri: Final = redirect_uri
        self._clients = clients
        self._codes, self._refreshes = grants
        self._revocation = revocation
        self._now = now

    def scopes(self) -> tuple[str, ...]:
        """Return the scopes of a login.

        Raises `ClientNotFoundError` and `GrantTypeNotAllowedError` for a client that can't log in.
        """
        client = self._client()
        for grant_type in (AUTHORIZATION_CODE, REFRESH_TOKEN):
            if grant_type not in client.grant_types:
                raise GrantTypeNotAllowedError(
                    f"the client {self.client_id} of the console is not registered for the grant type {grant_type}",
                    metadata={"grant_type": grant_type},
                )
        return tuple(scope for scope in SCOPES if scope in client.scopes)

    def registered_scopes(self) -> tuple[str, ...]:
        """Return the scopes that the client has now. Raises `ClientNotFoundError`."""
        return self._client().scopes

    async def exchange(self, code: str, verifier: str, origin: Origin) -> IssuedTokens:
        """Return the tokens for a code. Raises the errors of `CodeGrant.grant`."""
        return await self._codes.grant(
            self._caller(),
            GrantRequest(origin=origin),
            code=code,
            redirect_uri=self.redirect_uri,
            code_verifier=verifier,
            now=self._now(),
        )

    async def refresh(self, refresh_token: str, origin: Origin) -> IssuedTokens:
        """Return the next tokens of a session. Raises the errors of `RefreshGrant.grant`."""
        return await self._refreshes.grant(
            self._caller(), GrantRequest(origin=origin), refresh_token, "", self._now()
        )

    async def revoke(self, refresh_token: str) -> None:
        """Revoke the session of a refresh token. Raises the errors of `TokenRevocation.revoke`."""
        await self._revocation.revoke(self._caller(), refresh_token, self._now())

    def _caller(self) -> Caller:
        return public_caller(self._client())

    def _client(self) -> Client:
        client = self._clients.get(self.client_id)
        if client is None or client.state is not ClientState.ACTIVE:
            raise ClientNotFoundError(
                f"the client {self.client_id} of the console is not registered or disabled; see docs/console.md"
            )
        return client
