"""`/authorize`, `/callback/{upstream}` and `/par` (RFC 6749, section 3.1; RFC 9126; RFC 9207)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec import structs
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from token_service.clock import Clock
from token_service.core.login.pushed import REQUEST_URI_TTL
from token_service.core.login.requests import (
    AuthorizationFailedError,
    AuthorizationRequest,
    RequestedAuthorization,
    ResponseMode,
    ResponseTarget,
)
from token_service.core.login.upstream import Login
from token_service.core.login.use_cases import LoginUseCases
from token_service.errors import CallerUnauthenticatedError, InvalidRequestError, OverloadedError
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.device import DeviceEndpoint
from token_service.web.oauth.errors import NO_STORE, describe
from token_service.web.oauth.key_proofs import HttpKeyProofs
from token_service.web.oauth.login_cookies import MAX_COOKIE, LoginCookies
from token_service.web.oauth.pages import BROWSER_HEADERS, Pages
from token_service.web.oauth.parameters import Parameters, query_of, read_form
from token_service.wire import oauth_error


class AuthorizationEndpoint:
    """The endpoints of the authorization code flow that browsers come to, and that of pushed requests."""

    def __init__(
        self,
        use_cases: LoginUseCases,
        callers: HttpCallers,
        keys: HttpKeyProofs,
        pages: Pages,
        device: DeviceEndpoint,
        cookies: LoginCookies,
        clock: Clock,
        *,
        issuer: str,
    ) -> None:
        self._requests = use_cases.requests
        self._pushed = use_cases.pushed
        self._logins = use_cases.logins
        self._callers = callers
        self._keys = keys
        self._pages = pages
        self._device = device
        self._cookies = cookies
        self._clock = clock
        self._issuer = issuer

    async def authorize(self, request: Request) -> Response:
        """Send the browser to an upstream. Raises `ServiceError`, which a page shows."""
        parameters = await self._browser_parameters(request)
        now = self._clock.now()
        try:
            checked = await self._checked(parameters, now)
            login, sealed, url = await self._logins.begin(checked, now)
            if len(sealed) > MAX_COOKIE:
                raise AuthorizationFailedError(
                    InvalidRequestError.of("request", "is too long; shorten state, or push the request"),
                    checked.target,
                )
        except AuthorizationFailedError as failure:
            return self._failed(failure)
        response = RedirectResponse(url, 303, BROWSER_HEADERS)
        self._cookies.add(request, response, login.id, sealed)
        return response

    async def callback(self, request: Request) -> Response:
        """Complete a login. Raises `ServiceError`, which a page shows, as long as the login is not known."""
        parameters = query_of(request)
        state = parameters.get("state")
        sealed = self._cookies.read(request, state)
        if not sealed:
            raise InvalidRequestError.of("state", "is of no login that this browser has begun; start again")
        now = self._clock.now()
        login = await self._logins.open(sealed, now)
        if login.id != state or login.upstream != request.path_params["upstream"]:
            raise InvalidRequestError.of("state", "is of another login; start again")
        if login.user_code:
            response = await self._device.ask(request, login, parameters.as_dict())
        else:
            response = await self._complete(login, parameters, now)
        self._cookies.delete(response, state)
        return response

    async def push(self, request: Request) -> Response:
        """Answer a pushed request (RFC 9126, section 2). Raises `ServiceError`.

        A DPoP proof binds the code to its key, like the parameter `dpop_jkt` (RFC 9449, section 10.1).
        """
        parameters = await read_form(request)
        caller = await self._callers.client(request, parameters)
        if parameters.get("request_uri"):
            raise InvalidRequestError.of("request_uri", "must not be pushed")
        asked = _asked(parameters, caller.client_id)
        keys = self._keys.prove(request, caller.client_id)
        if keys.jkt:
            if asked.dpop_jkt not in ("", keys.jkt):
                raise InvalidRequestError.of("dpop_jkt", "is not the key of the DPoP proof")
            asked = structs.replace(asked, dpop_jkt=keys.jkt)
        try:
            checked = await self._requests.check(asked, is_pushed=True)
        except AuthorizationFailedError as failure:
            raise failure.error from None
        await keys.record()
        body = {
            "request_uri": self._pushed.push(checked, self._clock.now()),
            "expires_in": int(REQUEST_URI_TTL),
        }
        return JSONResponse(body, 201, {**NO_STORE, **self._keys.headers(keys, caller.client_id)})

    async def _browser_parameters(self, request: Request) -> Parameters:
        """Return the parameters in the query or, of a POST, in the form (OpenID Connect Core 1.0, section 3.1.2.1)."""
        return await read_form(request) if request.method == "POST" else query_of(request)

    async def _complete(self, login: Login, parameters: Parameters, now: float) -> Response:
        try:
            code = await self._logins.complete(login, parameters.as_dict(), now)
            return self._answer(login.request.target, {"code": code})
        except AuthorizationFailedError as failure:
            return self._failed(failure)

    async def _checked(self, parameters: Parameters, now: float) -> AuthorizationRequest:
        client_id = parameters.required("client_id")
        request_uri = parameters.get("request_uri")
        if request_uri:  # the other parameters do not count (RFC 9126, section 4)
            return await self._pushed.read(request_uri, client_id, now)
        return await self._requests.check(_asked(parameters, client_id))

    def _answer(self, target: ResponseTarget, parameters: Mapping[str, str]) -> Response:
        """Return an authorization response, which names the issuer (RFC 9207)."""
        fields = {**parameters, "iss": self._issuer}
        if target.state:
            fields["state"] = target.state
        if target.response_mode is ResponseMode.FORM_POST:
            return self._pages.form_post(target.redirect_uri, fields)
        separator = "&" if "?" in target.redirect_uri else "?"
        # 303, so that no browser repeats a POST with its body (RFC 9700, section 4.12).
        return RedirectResponse(f"{target.redirect_uri}{separator}{urlencode(fields)}", 303, BROWSER_HEADERS)

    def _failed(self, failure: AuthorizationFailedError) -> Response:
        code, _ = oauth_error(failure.error)
        if isinstance(failure.error, CallerUnauthenticatedError):
            code = "unauthorized_client"
        if isinstance(failure.error, OverloadedError):
            code = "temporarily_unavailable"
        return self._answer(
            failure.target, {"error": code, "error_description": describe(failure.error.message)}
        )


def _asked(parameters: Parameters, client_id: str) -> RequestedAuthorization:
    return RequestedAuthorization(
        client_id=client_id,
        redirect_uri=parameters.get("redirect_uri"),
        response_type=parameters.get("response_type"),
        response_mode=parameters.get("response_mode"),
        scopes=parameters.words("scope"),
        state=parameters.get("state"),
        nonce=parameters.get("nonce"),
        code_challenge=parameters.get("code_challenge"),
        code_challenge_method=parameters.get("code_challenge_method"),
        resources=tuple(dict.fromkeys(parameters.all("resource"))),
        prompts=parameters.words("prompt"),
        max_age=parameters.get("max_age"),
        acr_values=parameters.words("acr_values"),
        login_hint=parameters.get("login_hint"),
        id_token_hint=parameters.get("id_token_hint"),
        upstream=parameters.get("upstream"),
        request=parameters.get("request"),
        dpop_jkt=parameters.get("dpop_jkt"),
    )
