"""Identifies the caller of an OAuth endpoint by the proofs in the request (RFC 6749, section 2.3)."""

from __future__ import annotations

from starlette.requests import Request

from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.credentials import (
    MAX_CLIENT_SECRET,
    BearerProof,
    CallerProof,
    ClientSecretProof,
    PublicClientProof,
    parse_proof,
    two_proofs,
)
from token_service.core.limits import MAX_CLIENT_ID
from token_service.errors import CallerUnauthenticatedError
from token_service.tokens.secret import Secret
from token_service.web.oauth.parameters import Parameters


class HttpCallers:
    """Identifies callers over HTTP."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def client(self, request: Request, parameters: Parameters) -> Caller:
        """Return the registered client that sends a request.

        It proves itself with a secret (`client_secret_basic`, `client_secret_post`) or an assertion
        (`private_key_jwt`); a public client names itself with `client_id`. Raises `CallerUnauthenticatedError` and the
        errors of `Authenticator.identify`.
        """
        proof = _proof_of(request, parameters)
        if isinstance(proof, BearerProof):
            raise CallerUnauthenticatedError("a client proves itself with a secret or an assertion here")
        return await self._identify(request, parameters, proof)

    async def caller(self, request: Request, parameters: Parameters) -> Caller:
        """Return the caller that sends a request: a client as above, or the holder of a bearer token.

        Raises the errors of `Authenticator.identify`.
        """
        return await self._identify(request, parameters, _proof_of(request, parameters))

    async def _identify(self, request: Request, parameters: Parameters, proof: CallerProof) -> Caller:
        caller = await self._authenticator.identify(proof, address_of(request))
        client_id = parameters.get("client_id")
        if client_id and caller.client_id and client_id != caller.client_id:
            raise CallerUnauthenticatedError(
                "client_id names another client than the one that is authenticated"
            )
        return caller


def address_of(request: Request) -> str:
    """Return the address of the peer; empty: unknown."""
    return request.client.host if request.client is not None else ""


def _proof_of(request: Request, parameters: Parameters) -> CallerProof:
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise two_proofs()
    client_id, secret = parameters.get("client_id"), parameters.get("client_secret")
    proof = parse_proof(
        headers[0] if headers else None,
        parameters.get("client_assertion_type") or None,
        parameters.get("client_assertion") or None,
    )
    if len(client_id) > MAX_CLIENT_ID or len(secret) > MAX_CLIENT_SECRET:
        raise CallerUnauthenticatedError("client_id or client_secret is too long")
    if secret:
        if proof is not None:
            raise two_proofs()
        if not client_id:
            raise CallerUnauthenticatedError("client_secret needs client_id")
        return ClientSecretProof(client_id, Secret(secret.encode()))
    if proof is not None:
        return proof
    if client_id:
        return PublicClientProof(client_id)
    raise CallerUnauthenticatedError(
        "the request proves no client; send Basic credentials, client_id and client_secret, a client_assertion, or "
        "the client_id of a public client"
    )
