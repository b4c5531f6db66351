"""Authorization grants: the decision of a login service, as a code for a client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import AUTHORIZATION_CODE, Client
from token_service.core.clients.profile import requires_pushed_requests
from token_service.core.clients.uris import MAX_URI
from token_service.core.grants.codes import CODE_TTL, AuthorizationCode, Codes
from token_service.core.grants.decisions import admit_decision
from token_service.core.grants.registration import Registration
from token_service.core.issuing.issuer import check_auth_context
from token_service.core.limits import (
    MAX_AUDIENCE,
    MAX_AUDIENCES,
    MAX_CLIENT_ID,
    MAX_NONCE,
    MAX_SUBJECT,
    THUMBPRINT,
    Checks,
    is_thumbprint,
)
from token_service.core.revocation.replica import Replica
from token_service.errors import (
    ClientNotFoundError,
    GrantTypeNotAllowedError,
    InvalidRequestError,
    PushedRequestRequiredError,
)
from token_service.tokens.claims import AuthContext

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class AuthorizationGrantCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A decision of a login service. Empty audience: the default of the client."""

    client_id: str
    redirect_uri: str
    code_challenge: str
    subject: str
    audience: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    nonce: str = ""
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    identity_claims: Mapping[str, Any] = {}


class AuthorizationGrants:
    """Makes authorization codes for login services."""

    def __init__(
        self,
        registration: Registration,
        clients: ClientAdmission,
        codes: Codes,
        replica: Replica,
        *,
        issuer: str,
    ) -> None:
        self._registration = registration
        self._clients = clients
        self._codes = codes
        self._replica = replica
        self.issuer: Final = issuer

    async def create(
        self, caller: Caller, command: AuthorizationGrantCommand, now: float
    ) -> tuple[str, float]:
        """Return a code and its expiry, without I/O except for the metadata document of a client.

        Raises `PermissionDeniedError`, `InvalidRequestError`, `ClientNotFoundError`, `ClientDisabledError`,
        `GrantTypeNotAllowedError`, `PushedRequestRequiredError`, `PolicyViolationError`, `ReservedClaimError`, `CustomClaimNotAllowedError`,
        `CustomClaimsTooLargeError`, `ClientDocumentUnavailableError`, `OverloadedError`.
        """
        admit(caller, UseCase.CREATE_AUTHORIZATION_GRANT)
        _check(command)
        await self._clients.resolve(command.client_id, caller.identity, required=True)
        client = self._client(command)
        self._registration.require_scopes(client, command.scopes)
        scopes = tuple(dict.fromkeys(command.scopes))
        audience = self._registration.audience(client, command.audience)
        admit_decision(
            caller,
            command,
            client,
            audience=audience,
            scopes=scopes,
            policies=self._clients.policies,
            issuer=self.issuer,
        )
        code = AuthorizationCode(
            id=self._codes.new_id(),
            client_id=client.client_id,
            redirect_uri=command.redirect_uri,
            code_challenge=command.code_challenge,
            subject=command.subject,
            audience=audience,
            scopes=scopes,
            expire_time=now + CODE_TTL,
            revision=self._replica.applied,
            nonce=command.nonce,
            auth_context=command.auth_context,
            custom_claims=command.custom_claims,
            identity_claims=command.identity_claims,
        )
        return self._codes.format(code), code.expire_time

    def _client(self, command: AuthorizationGrantCommand) -> Client:
        """Return the client, if it may use the redirect URI."""
        client = self._clients.get(command.client_id)
        if client is None:
            raise ClientNotFoundError(metadata={"client_id": command.client_id})
        self._clients.require(command.client_id)
        if AUTHORIZATION_CODE not in client.grant_types:
            raise GrantTypeNotAllowedError(
                f"the client is not registered for the grant type {AUTHORIZATION_CODE}",
                metadata={"grant_type": AUTHORIZATION_CODE},
            )
        if requires_pushed_requests(client):
            raise PushedRequestRequiredError
        if not is_registered_redirect(command.redirect_uri, client.redirect_uris):
            raise InvalidRequestError.of("redirect_uri", "is not registered for the client")
        return client


def is_registered_redirect(uri: str, registered: tuple[str, ...]) -> bool:
    """Tell whether a redirect URI is registered: compared exactly (RFC 9700, section 2.1).

    The port of an `http` URI of a loopback address may differ (RFC 8252, section 7.3).
    """
    if uri in registered:
        return True
    plain = _without_port(uri)
    return plain is not None and any(plain == _without_port(each) for each in registered)


def _without_port(uri: str) -> str | None:
    """Return an `http` URI of a loopback address without its port; None for every other URI."""
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - raises ValueError for an invalid port
    except ValueError:
        return None
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK or "@" in parts.netloc or "#" in uri:
        return None
    return urlunsplit(parts._replace(netloc=parts.hostname))


def _check(command: AuthorizationGrantCommand) -> None:
    checks = Checks()
    checks.text("client_id", command.client_id, MAX_CLIENT_ID, required=True)
    checks.text("redirect_uri", command.redirect_uri, MAX_URI, required=True)
    challenge = command.code_challenge
    if not is_thumbprint(challenge):
        checks.add("code_challenge", f"is no S256 challenge: {THUMBPRINT} characters of base64url")
    checks.text("subject", command.subject, MAX_SUBJECT, required=True)
    checks.texts("audience", command.audience, MAX_AUDIENCES, MAX_AUDIENCE)
    checks.scopes("scopes", command.scopes)
    checks.text("nonce", command.nonce, MAX_NONCE)
    check_auth_context(checks, command.auth_context)
    checks.done()
