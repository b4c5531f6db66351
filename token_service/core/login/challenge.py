"""The upstream `challenge`: a login service of one's own answers over gRPC.

    [upstreams.inhouse]
    kind = "challenge"
    url = "https://login.example.org/login"

The browser is sent to the URL with a `login_challenge`, which only this service can read. The login service asks
AuthorizationService what it is about, authenticates the user, accepts or rejects the challenge, and sends the browser to
the URL in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit_client
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import Client
from token_service.core.grants.decisions import admit_decision
from token_service.core.issuing.issuer import check_auth_context
from token_service.core.keys.sealer import Sealer
from token_service.core.limits import MAX_COMMENT, MAX_SUBJECT, Checks
from token_service.core.login.requests import Prompt
from token_service.core.login.upstream import Authenticated, Login
from token_service.core.sessions.session import Session
from token_service.errors import AccessDeniedError, GrantInvalidError, InvalidRequestError, LoginRequiredError
from token_service.tokens.claims import AuthContext
from token_service.tokens.opaque_token import OpaqueTokenError


class AcceptCommand(msgspec.Struct, frozen=True, kw_only=True):
    """The word of a login service: this user has logged in."""

    login_challenge: str
    subject: str
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    identity_claims: Mapping[str, Any] = {}


class _Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The word of a login service, on its way through the browser."""

    login_id: str
    expire_time: float
    user: Authenticated | None = None
    refusal: str = ""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_login: Final = msgspec.msgpack.Decoder(Login).decode
_decode_verdict: Final = msgspec.msgpack.Decoder(_Verdict).decode


class ChallengeUpstream:
    """Sends browsers to a login service. See `Upstream`."""

    def __init__(self, url: str, challenges: Sealer, verdicts: Sealer) -> None:
        self._url = url
        self._challenges = challenges
        self._verdicts = verdicts

    async def login_url(self, login: Login) -> str:
        """See `Upstream.login_url`."""
        try:
            challenge = self._challenges.seal(_encode(login))
        except ValueError:
            raise InvalidRequestError.of("request", "is too long for a URL") from None
        return f"{self._url}{'&' if '?' in self._url else '?'}{urlencode({'login_challenge': challenge})}"

    async def complete(self, login: Login, parameters: Mapping[str, str]) -> Authenticated:
        """See `Upstream.complete`."""
        try:
            verdict = _decode_verdict(await self._verdicts.open(parameters.get("login_verifier", "")))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise GrantInvalidError("login_verifier: it is not from this service") from None
        if verdict.login_id != login.id:
            raise GrantInvalidError("login_verifier: it is of another login")
        if verdict.user is None:
            if Prompt.NONE in login.request.prompts:
                raise LoginRequiredError(verdict.refusal or None)
            raise AccessDeniedError(verdict.refusal or None)
        return verdict.user

    async def logout_url(self, session: Session, return_to: str, state: str) -> str | None:
        """See `Upstream.logout_url`. A login service learns of a logout from its back-channel or the stream."""
        return None


class LoginChallenges:
    """The login requests that login services answer."""

    def __init__(
        self,
        clients: ClientAdmission,
        challenges: Sealer,
        verdicts: Sealer,
        *,
        issuer: str,
    ) -> None:
        self._clients = clients
        self._challenges = challenges
        self._verdicts = verdicts
        self._issuer = issuer

    async def get(self, caller: Caller, login_challenge: str, now: float) -> tuple[Login, Client | None]:
        """Return a login request and its client.

        Raises `PermissionDeniedError` for a client that the caller may not issue for, `InvalidRequestError` for a
        challenge that has expired or that is not of this service, `KeysStaleError`, `StoreUnavailableError`.
        """
        login = await self._open(login_challenge, now)
        admit_client(caller, UseCase.GET_LOGIN_REQUEST, login.request.client_id)
        return login, self._clients.get(login.request.client_id)

    async def accept(self, caller: Caller, command: AcceptCommand, now: float) -> str:
        """Return the URL to send the browser to, after its user has logged in.

        Raises the errors of `get`, and `PermissionDeniedError` unless the caller may issue the tokens that come of it,
        `ClientDisabledError`, `ReservedClaimError`, `CustomClaimNotAllowedError`, `CustomClaimsTooLargeError`.
        """
        login, client = await self.get(caller, command.login_challenge, now)
        request = login.request
        checks = Checks()
        checks.text("subject", command.subject, MAX_SUBJECT, required=True)
        check_auth_context(checks, command.auth_context)
        checks.done()
        self._clients.require(request.client_id)
        assert client is not None
        admit_decision(
            caller,
            command,
            client,
            audience=request.audience,
            scopes=request.scopes,
            policies=self._clients.policies,
            issuer=self._issuer,
        )
        user = Authenticated(
            subject=command.subject,
            auth_context=command.auth_context,
            custom_claims=command.custom_claims,
            identity_claims=command.identity_claims,
        )
        return self._callback(login, _Verdict(login_id=login.id, expire_time=login.expire_time, user=user))

    async def reject(self, caller: Caller, login_challenge: str, reason: str, now: float) -> str:
        """Return the URL to send the browser to, after a login that was refused. `reason` is shown to the client.

        Raises the errors of `get`.
        """
        checks = Checks()
        checks.text("reason", reason, MAX_COMMENT)
        checks.done()
        login, _ = await self.get(caller, login_challenge, now)
        return self._callback(
            login, _Verdict(login_id=login.id, expire_time=login.expire_time, refusal=reason)
        )

    def _callback(self, login: Login, verdict: _Verdict) -> str:
        try:
            verifier = self._verdicts.seal(_encode(verdict))
        except ValueError:
            raise InvalidRequestError.of(
                "custom_claims", "and the identity claims are too long for a URL"
            ) from None
        query = urlencode({"state": login.id, "login_verifier": verifier})
        return f"{self._issuer.rstrip('/')}/callback/{login.upstream}?{query}"

    async def _open(self, login_challenge: str, now: float) -> Login:
        try:
            login = _decode_login(await self._challenges.open(login_challenge))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise InvalidRequestError.of("login_challenge", "is not from this service") from None
        if login.expire_time <= now:
            raise InvalidRequestError.of("login_challenge", "has expired; the user has to start again")
        return login
