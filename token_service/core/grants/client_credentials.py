"""The client credentials grant: a client gets an access token for itself (RFC 6749, section 4.4)."""

from __future__ import annotations

from token_service.core.access.caller import Caller, Proof
from token_service.core.clients.client import CLIENT_CREDENTIALS
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.registration import Registration
from token_service.core.issuing.commands import IssueCommand, IssuedTokens
from token_service.core.issuing.issuer import Issuer
from token_service.errors import GrantTypeNotAllowedError
from token_service.tokens.claims import TokenKind

_ACCESS = frozenset({TokenKind.ACCESS})


class ClientCredentials:
    """Issues access tokens whose subject is the client itself. It opens no session and issues no refresh token."""

    def __init__(self, registration: Registration, issuer: Issuer) -> None:
        self._registration = registration
        self._issuer = issuer

    async def grant(self, caller: Caller, request: GrantRequest, now: float) -> IssuedTokens:
        """Issue an access token.

        Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`, `PolicyViolationError`, and the errors of
        `Issuer.grant` and `ProvedKeys`.
        """
        client = self._registration.admit(caller, CLIENT_CREDENTIALS)
        if caller.proof is Proof.CLIENT_ID:
            raise GrantTypeNotAllowedError("client_credentials needs a client that authenticates itself")
        command = IssueCommand(
            subject=client.client_id,
            client_id=client.client_id,
            audience=self._registration.audience(client, request.audience),
            scopes=self._registration.scopes(client, request.scopes),
            kinds=_ACCESS,
            client_context=request.origin,
            confirmation=request.keys.confirmation(client),
            audit_fields={"grant_type": CLIENT_CREDENTIALS},
        )
        await request.keys.record()
        return await self._issuer.grant(caller, command, now)
