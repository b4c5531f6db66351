"""Logins: from an authorization request to the code of its client.

Nothing is stored before the code. The login is a sealed cookie of the browser that began it, so that the answer of an
upstream counts in this browser only (login CSRF, RFC 9700 section 4.7). The answer names the upstream that was asked
(mix-up, section 4.4), because each upstream has a callback of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from token_service.core.clients.admission import ClientAdmission
from token_service.core.entropy import Entropy
from token_service.core.grants.codes import CODE_TTL, AuthorizationCode, Codes, StepUp
from token_service.core.keys.sealer import Sealer
from token_service.core.login.requests import AuthorizationFailedError, AuthorizationRequest, Prompt
from token_service.core.login.step_up import StepUps
from token_service.core.login.upstream import Authenticated, Login, Upstream
from token_service.errors import (
    AccessDeniedError,
    AuthenticationInsufficientError,
    ConsentRequiredError,
    InvalidRequestError,
    LoginRequiredError,
    ServiceError,
)
from token_service.tokens import base64url
from token_service.tokens.claims import AuthContext
from token_service.tokens.opaque_token import OpaqueTokenError

LOGIN_TTL: Final = 600.0
"""Seconds that a user has for a login."""
_ID_BYTES: Final = 16
_SECRET_BYTES: Final = 32
_AGE_LEEWAY: Final = 10
"""Seconds that the clocks of an upstream and of this service may differ."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Login).decode


class Logins:
    """Begins and completes logins."""

    def __init__(
        self,
        clients: ClientAdmission,
        codes: Codes,
        sealer: Sealer,
        entropy: Entropy,
        revision: Callable[[], int],
        upstreams: Callable[[], Mapping[str, Upstream]],
        step_ups: StepUps,
    ) -> None:
        """`revision` returns the head of the revocation log as this node knows it. `upstreams`: the default one first."""
        self._clients = clients
        self._codes = codes
        self._sealer = sealer
        self._entropy = entropy
        self._revision = revision
        self._upstreams = upstreams
        self._step_ups = step_ups

    async def begin(self, request: AuthorizationRequest, now: float) -> tuple[Login, str, str]:
        """Return a new login, its sealed text for the browser, and the URL to send the browser to.

        Raises `AuthorizationFailedError`.
        """
        try:
            client = self._clients.get(request.client_id)
            if client is not None and not client.first_party:
                raise ConsentRequiredError
            return await self.start(request, now)
        except ServiceError as error:
            raise AuthorizationFailedError(error, request.target) from None

    async def start(
        self, request: AuthorizationRequest, now: float, *, user_code: str = ""
    ) -> tuple[Login, str, str]:
        """Return a new login, its sealed text for the browser, and the URL to send the browser to.

        `user_code`: of the device that the login is for. Raises `InvalidRequestError` and the errors of
        `Upstream.login_url`.
        """
        upstreams = self._upstreams()
        name = request.upstream or next(iter(upstreams), "")
        if name not in upstreams:
            raise InvalidRequestError.of("upstream", "names no upstream of this service")
        login = Login(
            id=base64url.encode(self._entropy(_ID_BYTES)),
            request=request,
            upstream=name,
            secret=base64url.encode(self._entropy(_SECRET_BYTES)),
            expire_time=now + LOGIN_TTL,
            user_code=user_code,
        )
        try:
            sealed = self._sealer.seal(_encode(login))
        except ValueError:
            raise InvalidRequestError.of("request", "is too long; push it (RFC 9126)") from None
        return login, sealed, await upstreams[name].login_url(login)

    async def open(self, sealed: str, now: float) -> Login:
        """Return the login in a cookie.

        Raises `InvalidRequestError` for a login that has expired or that is not of this service, `KeysStaleError`,
        `StoreUnavailableError`.
        """
        try:
            login = _decode(await self._sealer.open(sealed))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise InvalidRequestError.of("cookie", "is no login of this service; start again") from None
        if login.expire_time <= now:
            raise InvalidRequestError.of("cookie", "is of a login that took too long; start again")
        return login

    async def complete(self, login: Login, parameters: Mapping[str, str], now: float) -> str:
        """Return the code for the client of a login that the browser has brought back.

        Raises `AuthorizationFailedError`.
        """
        try:
            user = await self.authenticate(login, parameters, now)
            step_up = await self._step_ups.decide(login, user, now)
            return self._code(login, user, step_up, now)
        except ServiceError as error:
            raise AuthorizationFailedError(error, login.request.target) from None

    async def authenticate(self, login: Login, parameters: Mapping[str, str], now: float) -> Authenticated:
        """Return the user of a login that the browser has brought back.

        Raises `LoginRequiredError`, `AuthenticationInsufficientError` and the errors of `Upstream.complete`.
        """
        upstream = self._upstreams().get(login.upstream)
        if upstream is None:
            raise AccessDeniedError("the upstream of the login is no longer configured")
        user = await upstream.complete(login, parameters)
        _require_sufficient(login.request, user.auth_context, now)
        return user

    def _code(self, login: Login, user: Authenticated, step_up: StepUp | None, now: float) -> str:
        request = login.request
        self._clients.require(request.client_id)
        return self._codes.format(
            AuthorizationCode(
                id=self._codes.new_id(),
                client_id=request.client_id,
                redirect_uri=request.redirect_uri,
                code_challenge=request.code_challenge,
                subject=user.subject,
                audience=request.audience,
                scopes=request.scopes,
                expire_time=now + CODE_TTL,
                revision=self._revision(),
                nonce=request.nonce,
                auth_context=user.auth_context,
                custom_claims=user.custom_claims,
                identity_claims=user.identity_claims,
                upstream=login.upstream,
                upstream_session=user.upstream_session,
                step_up=step_up,
                dpop_jkt=request.dpop_jkt,
            )
        )


def _require_sufficient(request: AuthorizationRequest, context: AuthContext | None, now: float) -> None:
    """Raise an error unless the authentication is as new and as strong as the client asked for (RFC 9470).

    An upstream may ignore what it was asked for, so its answer is checked.
    """
    if request.max_age is not None or Prompt.LOGIN in request.prompts:
        age = None if context is None or context.auth_time is None else now - context.auth_time
        most = LOGIN_TTL if request.max_age is None else request.max_age
        if age is None or age > most + _AGE_LEEWAY:
            raise LoginRequiredError("the upstream did not authenticate the user as recently as requested")
    if request.acr_values and (context is None or context.acr not in request.acr_values):
        raise AuthenticationInsufficientError
