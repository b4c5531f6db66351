"""Authorization requests of clients (RFC 6749, section 4.1.1; RFC 7636; OpenID Connect Core 1.0, section 3.1.2.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from msgspec import structs

from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import AUTHORIZATION_CODE, Client, ClientState
from token_service.core.clients.profile import is_fapi, requires_pushed_requests
from token_service.core.grants.authorization import is_registered_redirect
from token_service.core.grants.registration import Registration
from token_service.core.limits import MAX_ACR, MAX_NONCE, THUMBPRINT, Checks, is_thumbprint
from token_service.errors import (
    ClientNotFoundError,
    ConsentRequiredError,
    GrantTypeNotAllowedError,
    InvalidRequestError,
    PushedRequestRequiredError,
    ResponseTypeUnknownError,
    ServiceError,
)

MAX_STATE: Final = 1024
"""Characters of `state`, which travels through the browser three times."""
MAX_LOGIN_HINT: Final = 256
MAX_ACR_VALUES: Final = 8
MAX_AUTHENTICATION_AGE: Final = 10 * 365 * 86400


class Prompt(StrEnum):
    """A value of `prompt` (OpenID Connect Core 1.0, section 3.1.2.1)."""

    NONE = "none"
    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"


class ResponseMode(StrEnum):
    """The way of the response to the client (OAuth 2.0 Multiple Response Types; Form Post Response Mode)."""

    QUERY = "query"
    FORM_POST = "form_post"


class RequestedAuthorization(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of an authorization request, as sent. Empty: not sent."""

    client_id: str = ""
    redirect_uri: str = ""
    response_type: str = ""
    response_mode: str = ""
    scopes: tuple[str, ...] = ()
    state: str = ""
    nonce: str = ""
    code_challenge: str = ""
    code_challenge_method: str = ""
    resources: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    max_age: str = ""
    acr_values: tuple[str, ...] = ()
    login_hint: str = ""
    id_token_hint: str = ""
    upstream: str = ""
    request: str = ""
    dpop_jkt: str = ""

    def __repr__(self) -> str:
        return f"<RequestedAuthorization client_id={self.client_id!r}>"


class Hint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an authentic ID token of the client says about the login of its user."""

    subject: str
    session_id: str = ""


ReadHint: TypeAlias = Callable[[str, str], Awaitable[Hint | None]]
"""`read(id_token_hint, client_id)`. See `LoginHints.read`."""


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A checked authorization request."""

    client_id: str
    redirect_uri: str
    """Empty for a device, which gets no response through the browser."""
    code_challenge: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    response_mode: ResponseMode = ResponseMode.QUERY
    state: str = ""
    nonce: str = ""
    prompts: tuple[Prompt, ...] = ()
    max_age: int | None = None
    """Seconds since the authentication of the subject, at most."""
    acr_values: tuple[str, ...] = ()
    """Acceptable authentication context classes, the preferred one first."""
    login_hint: str = ""
    hint: Hint | None = None
    """The user that is expected, and the session that a step-up raises."""
    upstream: str = ""
    """The name of the upstream that shall authenticate the user; empty: the default one."""
    dpop_jkt: str = ""
    """The thumbprint of the DPoP key that the exchange of the code must prove (RFC 9449, section 10)."""

    @property
    def target(self) -> ResponseTarget:
        """The receiver of the response."""
        return ResponseTarget(self.redirect_uri, self.response_mode, self.state)


class ResponseTarget(msgspec.Struct, frozen=True):
    """The receiver of an authorization response: a checked redirect URI, and the state of the client."""

    redirect_uri: str
    response_mode: ResponseMode
    state: str


class AuthorizationFailedError(Exception):
    """An authorization request failed in a way that the client may learn of through the browser."""

    def __init__(self, error: ServiceError, target: ResponseTarget) -> None:
        super().__init__(error.message)
        self.error = error
        self.target = target


class AuthorizationRequests:
    """Checks authorization requests against the registration of their clients."""

    def __init__(self, clients: ClientAdmission, registration: Registration, read_hint: ReadHint) -> None:
        self._clients = clients
        self._registration = registration
        self._read_hint = read_hint

    async def check(self, asked: RequestedAuthorization, *, is_pushed: bool = False) -> AuthorizationRequest:
        """Return a checked request. `is_pushed`: the client has sent it itself, not through a browser (RFC 9126).

        As long as client and redirect URI are not known to be right, nothing may be sent there: raises `ServiceError`,
        which a page shows (RFC 9700, section 4.11). After it, raises `AuthorizationFailedError`.
        """
        client = self._clients.get(asked.client_id)
        if client is None or client.state is not ClientState.ACTIVE:
            raise ClientNotFoundError("client_id names no active client")
        if client.describes_itself:
            # Anyone can describe a client, so even a failure must not be sent to it (RFC 9700, section 4.11.2).
            raise ConsentRequiredError
        if is_fapi(client) and not asked.redirect_uri:
            raise InvalidRequestError.of(
                "redirect_uri", "is required (FAPI 2.0 Security Profile, section 5.3.2.2)"
            )
        target = ResponseTarget(
            _redirect_uri(client, asked.redirect_uri),
            ResponseMode.FORM_POST if asked.response_mode == ResponseMode.FORM_POST else ResponseMode.QUERY,
            asked.state if len(asked.state) <= MAX_STATE else "",
        )
        try:
            if not is_pushed and requires_pushed_requests(client):
                raise PushedRequestRequiredError
            checked = self._checked(client, asked, target)
            hint = await self._read_hint(asked.id_token_hint, client.client_id)
            return structs.replace(checked, hint=hint)
        except ServiceError as error:
            raise AuthorizationFailedError(error, target) from None

    def _checked(
        self, client: Client, asked: RequestedAuthorization, target: ResponseTarget
    ) -> AuthorizationRequest:
        if asked.request:
            raise InvalidRequestError.of("request", "is not supported; use the pushed requests of RFC 9126")
        if asked.response_type != "code":
            raise ResponseTypeUnknownError
        if AUTHORIZATION_CODE not in client.grant_types:
            raise GrantTypeNotAllowedError(
                f"the client is not registered for the grant type {AUTHORIZATION_CODE}",
                metadata={"grant_type": AUTHORIZATION_CODE},
            )
        prompts, max_age = _check(asked)
        self._registration.require_scopes(client, asked.scopes)
        return AuthorizationRequest(
            client_id=client.client_id,
            redirect_uri=target.redirect_uri,
            code_challenge=asked.code_challenge,
            scopes=tuple(dict.fromkeys(asked.scopes)),
            audience=self._registration.audience(client, asked.resources),
            response_mode=target.response_mode,
            state=target.state,
            nonce=asked.nonce,
            prompts=prompts,
            max_age=max_age,
            acr_values=asked.acr_values,
            login_hint=asked.login_hint,
            upstream=asked.upstream,
            dpop_jkt=asked.dpop_jkt,
        )


def _redirect_uri(client: Client, asked: str) -> str:
    """Return the redirect URI of a request. It may be left out if the client has a single one."""
    if not asked and len(client.redirect_uris) == 1:
        return client.redirect_uris[0]
    if not is_registered_redirect(asked, client.redirect_uris):
        raise InvalidRequestError.of("redirect_uri", "is not registered for the client")
    return asked


def _check(asked: RequestedAuthorization) -> tuple[tuple[Prompt, ...], int | None]:
    """Check the rest of the parameters; return the prompts and the maximal age."""
    checks = Checks()
    if asked.response_mode and asked.response_mode not in tuple(ResponseMode):
        checks.add("response_mode", f"is none of {', '.join(ResponseMode)}")
    checks.text("state", asked.state, MAX_STATE)
    checks.text("nonce", asked.nonce, MAX_NONCE)
    checks.text("login_hint", asked.login_hint, MAX_LOGIN_HINT)
    checks.texts("acr_values", asked.acr_values, MAX_ACR_VALUES, MAX_ACR)
    checks.scopes("scope", asked.scopes)
    if asked.code_challenge_method != "S256":
        checks.add("code_challenge_method", "must be S256 (RFC 7636, section 4.3)")
    challenge = asked.code_challenge
    if not is_thumbprint(challenge):
        checks.add("code_challenge", f"is no S256 challenge: {THUMBPRINT} characters of base64url")
    if asked.dpop_jkt and not is_thumbprint(asked.dpop_jkt):
        checks.add("dpop_jkt", f"is no SHA-256 thumbprint of a key: {THUMBPRINT} characters of base64url")
    known = tuple(Prompt)
    if any(prompt not in known for prompt in asked.prompts):
        checks.add("prompt", f"has a value other than {', '.join(known)}")
    elif Prompt.NONE in asked.prompts and len(asked.prompts) > 1:
        checks.add("prompt", "has none together with another value")
    max_age: int | None = None
    if asked.max_age:
        if asked.max_age.isdecimal() and asked.max_age.isascii() and len(asked.max_age) <= 9:
            max_age = min(int(asked.max_age), MAX_AUTHENTICATION_AGE)
        else:
            checks.add("max_age", "is not a number of seconds")
    checks.done()
    return tuple(Prompt(prompt) for prompt in dict.fromkeys(asked.prompts)), max_age
