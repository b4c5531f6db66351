"""Identifies callers by the proofs in a request: a client secret, an assertion or a bearer token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Final, Protocol

from token_service.core.access.caller import Caller, Proof
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.access.credentials import (
    AssertionProof,
    BearerProof,
    CallerProof,
    CertificateProof,
    ClientSecretProof,
    PublicClientProof,
)
from token_service.core.access.known_secrets import KnownSecrets
from token_service.core.access.names import matches
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import Workloads
from token_service.core.clients.client import AuthMethod, Client, ClientSecret, ClientState
from token_service.core.clients.lookup import ClientLookup
from token_service.core.policies.rights import Permission, Right
from token_service.errors import CallerUnauthenticatedError, InvalidTokenError
from token_service.tokens import base64url
from token_service.tokens.assertions import parse_assertion
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.possession import Scheme

_NOT_ACCEPTED: Final = "the bearer token is not accepted: "


class OwnTokens(Protocol):
    """Validates access tokens of this service."""

    async def validate(self, proof: BearerProof) -> VerifiedClaims:
        """Return the claims of a valid access token whose audience is this service.

        A token that is bound to a key counts only with a proof of the key. Raises `CallerUnauthenticatedError`,
        `ProofInvalidError`, `ProofNonceRequiredError`, `ReplicaStaleError` and `StoreUnavailableError`.
        """


class Authenticator:
    """Identifies callers that prove themselves in the request, not by a certificate."""

    def __init__(
        self,
        clients: ClientLookup,
        authentication: ClientAuthenticator,
        own_tokens: OwnTokens,
        *,
        issuer: str,
        workloads: Workloads,
        callers: Mapping[str, Rights],
        note_use: Callable[[str, str], None] = lambda _client_id, _secret_id: None,
    ) -> None:
        """`issuer`: the `iss` of own tokens. `note_use` records the use of a client secret, without blocking."""
        self._clients = clients
        self._authentication = authentication
        self._own_tokens = own_tokens
        self._issuer = issuer
        self.workloads = workloads
        """The workload issuers. May be replaced at any time."""
        self.callers = callers
        """The rights of callers by name. May be replaced at any time."""
        self._note_use = note_use
        self._known_secrets = KnownSecrets(authentication)

    def recognize(self, authorization: str, address: str) -> Caller | None:
        """Return the caller of a header field that has proved a client secret before; None: `identify` it.

        Raises `OverloadedError` after many failures.
        """
        caller = self._known_secrets.find(authorization, address)
        if caller is not None:
            self._note_use(caller.client_id, caller.secret_id)
        return caller

    async def identify(self, proof: CallerProof, address: str) -> Caller:
        """Return the caller that a proof identifies; `address` is that of its peer.

        Raises `CallerUnauthenticatedError`, `OverloadedError` after many failures, `ReplicaStaleError`,
        `StoreUnavailableError`, `ForeignKeysUnavailableError`.
        """
        match proof:
            case ClientSecretProof():
                client, secret = self._authentication.with_secret(proof, address)
                self._note_use(client.client_id, secret.secret_id)
                caller = _caller(client, Proof.CLIENT_SECRET, _end_of(secret.expire_time), secret.secret_id)
                if proof.authorization:
                    self._known_secrets.add(proof.authorization, client, secret, caller)
                return caller
            case AssertionProof():
                client = await self._authentication.with_assertion(proof, address)
                return _caller(client, Proof.CLIENT_ASSERTION)
            case BearerProof():
                return await self._with_token(proof)
            case PublicClientProof():
                client = await self._authentication.public(proof, address)
                return public_caller(client)

            case CertificateProof():
                client, expire_time = self._authentication.with_certificate(proof, address)
                return _caller(client, Proof.CERTIFICATE, expire_time)

    def has_certificate(self, client_id: str) -> bool:
        """Tell whether a client is registered to authenticate itself with a certificate."""
        return self._authentication.has_certificate(client_id)

    def rights(self, caller: Caller) -> Rights:
        """Return the current rights of an identified caller."""
        if caller.client_id:
            client = self._clients.get(caller.client_id)
            if client is None or (caller.secret_id and _secret_of(client, caller) is None):
                return Rights()
            return rights_in_force(client)
        if not self.workloads.trusts(caller.name):
            return Rights()
        return _rights(self.callers, caller.name)

    def expire_time(self, caller: Caller) -> float:
        """Return when the proof of an identified caller expires: earlier than before if its secret was replaced."""
        client = self._clients.get(caller.client_id) if caller.secret_id else None
        secret = None if client is None else _secret_of(client, caller)
        return caller.expire_time if secret is None else _end_of(secret.expire_time)

    async def _with_token(self, proof: BearerProof) -> Caller:
        try:
            parsed = parse_assertion(proof.token)
        except InvalidTokenError as error:
            raise CallerUnauthenticatedError(f"{_NOT_ACCEPTED}{error.message}") from None
        if parsed.text("iss") != self._issuer:
            if proof.scheme is not Scheme.BEARER:
                raise CallerUnauthenticatedError(f"{_NOT_ACCEPTED}a workload token has the scheme Bearer")
            name, expire_time = await self.workloads.identify(parsed)
            rights = _rights(self.callers, name)
            if not rights.permissions and not matches(self.callers, name):
                raise CallerUnauthenticatedError("the workload is not known here")
            return Caller(name, rights, Proof.WORKLOAD_TOKEN, identity_of(name), expire_time=expire_time)
        claims = await self._own_tokens.validate(proof)
        # A token of a user names the client, too. It must not give its holder the rights of the client.
        if claims.subject != claims.client_id:
            raise CallerUnauthenticatedError(f"{_NOT_ACCEPTED}its subject is not the client itself")
        client = self._clients.get(claims.client_id)
        if client is None or client.state is not ClientState.ACTIVE:
            raise CallerUnauthenticatedError(f"{_NOT_ACCEPTED}its client is not registered or disabled")
        caller = replace(_caller(client, Proof.ACCESS_TOKEN, float(claims.expire_time)), token=claims)
        if client.token_endpoint_auth_method is AuthMethod.NONE:
            return replace(caller, rights=_rights_of_its_tokens(client))
        return caller


def rights_in_force(client: Client) -> Rights:
    """Return the rights of a registered client in its current state; none if it is disabled or deleted."""
    if client.state is not ClientState.ACTIVE:
        return Rights()
    if client.token_endpoint_auth_method is AuthMethod.NONE:
        return _rights_of_its_tokens(client)
    return rights_of_client(client)


def rights_of_client(client: Client) -> Rights:
    """Return the rights of a registered client: those of its record, and to refresh and revoke its own tokens."""
    return _rights_with(client.client_id, client.rights)


def public_caller(client: Client) -> Caller:
    """Return the caller that a client without any proof is: it may refresh and revoke its own tokens."""
    return replace(_caller(client, Proof.CLIENT_ID), rights=_rights_of_its_tokens(client))


def _rights_of_its_tokens(client: Client) -> Rights:
    """Return the rights that every client has. A public client has no others, because it proves nothing."""
    return _rights_with(client.client_id, ())


@lru_cache(maxsize=4096)  # each call of a client needs them
def _rights_with(client_id: str, rights: tuple[Right, ...]) -> Rights:
    own = (client_id,)
    return Rights(
        (
            *rights,
            Right(permission=Permission.REFRESH, clients=own),
            Right(permission=Permission.REVOKE, clients=own),
        )
    )


@lru_cache(maxsize=4096)
def identity_of(name: str) -> str:
    """Return the identity of a caller with one name, for quotas and subscribers."""
    return base64url.encode(hashlib.sha256(name.encode()).digest())


def _caller(client: Client, proof: Proof, expire_time: float = float("inf"), secret_id: str = "") -> Caller:
    return Caller(
        client.client_id,
        rights_of_client(client),
        proof,
        identity_of(f"client:{client.client_id}"),
        client_id=client.client_id,
        expire_time=expire_time,
        secret_id=secret_id,
    )


def _secret_of(client: Client, caller: Caller) -> ClientSecret | None:
    """Return the secret that identified a caller; None if its client has it no longer."""
    if client.token_endpoint_auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
        return None
    return next((each for each in client.secrets if each.secret_id == caller.secret_id), None)


def _end_of(expire_time: float | None) -> float:
    return float("inf") if expire_time is None else expire_time


def _rights(callers: Mapping[str, Rights], name: str) -> Rights:
    return Rights.joined(matches(callers, name))
