"""Identifies the caller of an OAuth endpoint by the proofs in the request (RFC 6749, section 2.3)."""

from __future__ import annotations

from dataclasses import replace

from starlette.requests import Request

from token_service.core.access.authenticator import Authenticator
from token_service.core.access.caller import Caller
from token_service.core.access.credentials import (
    MAX_CLIENT_SECRET,
    AssertionProof,
    BearerProof,
    CallerProof,
    CertificateProof,
    ClientSecretProof,
    PublicClientProof,
    parse_proof,
    two_proofs,
)
from token_service.core.limits import MAX_CLIENT_ID
from token_service.errors import CallerUnauthenticatedError
from token_service.tokens.secret import Secret
from token_service.web.oauth.cors import note_client
from token_service.web.oauth.key_proofs import HttpKeyProofs
from token_service.web.oauth.parameters import Parameters
from token_service.web.peer import peer_of


class HttpCallers:
    """Identifies callers over HTTP."""

    def __init__(self, authenticator: Authenticator, keys: HttpKeyProofs) -> None:
        self._authenticator = authenticator
        self._keys = keys

    async def client(self, request: Request, parameters: Parameters) -> Caller:
        """Return the registered client that sends a request.

        It proves itself with a secret (`client_secret_basic`, `client_secret_post`) or an assertion
        (`private_key_jwt`), or with `client_id` and the certificate of its connection (`tls_client_auth`); a public client
        names itself with `client_id`. Raises `CallerUnauthenticatedError` and the
        errors of `Authenticator.identify`.
        """
        proof = self._proof_of(request, parameters)
        if isinstance(proof, BearerProof):
            raise CallerUnauthenticatedError("a client proves itself with a secret or an assertion here")
        return await self._identify(request, parameters, proof)

    async def caller(self, request: Request, parameters: Parameters) -> Caller:
        """Return the caller that sends a request: a client as above, or the holder of an access or workload token.

        Raises the errors of `Authenticator.identify`.
        """
        proof = self._proof_of(request, parameters)
        if isinstance(proof, BearerProof):
            proof = replace(proof, presented=self._keys.presented(request))
        return await self._identify(request, parameters, proof)

    async def _identify(self, request: Request, parameters: Parameters, proof: CallerProof) -> Caller:
        if not isinstance(proof, AssertionProof | BearerProof):
            note_client(request, proof.client_id)  # so that a page can read why it failed
        caller = await self._authenticator.identify(proof, peer_of(request).address)
        note_client(request, caller.client_id)
        client_id = parameters.get("client_id")
        if client_id and caller.client_id and client_id != caller.client_id:
            raise CallerUnauthenticatedError(
                "client_id names another client than the one that is authenticated"
            )
        return caller

    def _proof_of(self, request: Request, parameters: Parameters) -> CallerProof:
        proof = _sent_proof(request, parameters)
        if proof is not None:
            return proof
        client_id = parameters.get("client_id")
        if self._authenticator.has_certificate(client_id):
            return CertificateProof(client_id, peer_of(request).chain)
        return PublicClientProof(client_id)


def _sent_proof(request: Request, parameters: Parameters) -> CallerProof | None:
    """Return the proof in the headers or parameters; None if `client_id` alone names the client."""
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
    if not client_id:
        raise CallerUnauthenticatedError(
            "the request proves no client; send Basic credentials, client_id and client_secret, a client_assertion, "
            "client_id and a client certificate, or the client_id of a public client"
        )
    # Other clients may have a certificate for another reason, so it is no second proof.
    return None
