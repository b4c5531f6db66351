"""The login to the console by this service's own code flow, as an OpenID client with PKCE, state and nonce."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.operators import OperatorEntry, login_caller, operator_of
from token_service.core.access.rights import Rights
from token_service.core.entropy import Entropy
from token_service.core.keys.sealer import Sealer
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import GrantInvalidError, InvalidRequestError, PermissionDeniedError
from token_service.tokens import base64url
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueTokenError
from token_service.web.console.access import LoginNeededError
from token_service.web.console.client import ConsoleClient
from token_service.web.console.rendering import CONSOLE_HEADERS, Views
from token_service.web.console.sessions import ConsoleSessions, LiveSession
from token_service.web.console.visit import Operator
from token_service.web.edge import HttpEdge, Refuse
from token_service.web.oauth import discovery
from token_service.web.oauth.login_cookies import LoginCookies
from token_service.web.oauth.parameters import query_of
from token_service.web.oauth.requests import origin_of

LOGIN: Final = "login"
CALLBACK: Final = "callback"
LOGIN_TTL: Final = 900.0
"""Seconds that an operator has for a login. Longer than those that the code flow gives."""
MAX_RETURN: Final = 1024
"""Characters of the page to come back to."""
_BYTES: Final = 32
_BELOW: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
"""The path of a page below the console. Browsers take `%2e%2e` for `..`, so nothing encoded is one."""


class _Begun(msgspec.Struct, frozen=True):
    """A login that has begun. The browser carries it, sealed, in a cookie."""

    state: str
    verifier: str
    nonce: str
    return_to: str
    expire_time: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Begun).decode


class CodeFlowAccess:
    """Identifies operators by their login. See `ConsoleAccess`."""

    def __init__(
        self,
        client: ConsoleClient,
        sessions: ConsoleSessions,
        operators: Callable[[], Mapping[str, OperatorEntry]],
        sealer: Sealer,
        introspector: Introspector,
        entropy: Entropy,
        clock: Clock,
        *,
        issuer: str,
    ) -> None:
        self._client = client
        self._sessions = sessions
        self._operators = operators
        self._sealer = sealer
        self._introspector = introspector
        self._entropy = entropy
        self._clock = clock
        self._issuer = issuer
        self._origin = origin_of_url(issuer)
        self._cookies = LoginCookies(issuer, "console-login")

    async def identify(self, request: Request) -> Operator:
        """See `ConsoleAccess`."""
        session = await self._sessions.find(request)
        claims = session.claims
        cookies = self._keep(session) if session.renewed else None
        try:
            scopes = self._client.registered_scopes()
            caller, refusal = operator_of(self._operators().values(), claims, scopes), None
        except PermissionDeniedError as error:
            caller, refusal = login_caller(claims, Rights()), error
        return Operator(caller, claims.subject, claims.session_id, cookies=cookies, refusal=refusal)

    def origin(self, request: Request) -> str:
        """See `ConsoleAccess`."""
        return self._origin

    def is_arriving(self, request: Request) -> bool:
        """See `ConsoleAccess`. Browsers send the cookie only with requests of the console's own pages."""
        return not self._sessions.is_known(request) and request.headers.get("sec-fetch-site") in {
            "cross-site",
            "same-site",
        }

    async def log_out(self, request: Request, response: Response) -> None:
        """See `ConsoleAccess`."""
        await self._sessions.end(request)
        self._sessions.forget(response)

    def routes(self, edge: HttpEdge, views: Views, refuse: Refuse) -> list[Route]:
        """See `ConsoleAccess`."""

        async def complete(request: Request) -> Response:
            return await self._complete(request, views)

        async def begin(request: Request) -> Response:
            return self._begin(request, views)

        routes = [
            edge.route(views.url(LOGIN), None, begin, refuse=refuse),
            edge.route(views.url(CALLBACK), None, complete, refuse=refuse),
        ]
        for route in routes:
            # A request of a program that only looks at a URL must not begin or complete a login.
            assert route.methods is not None
            route.methods.discard("HEAD")
        return routes

    def _begin(self, request: Request, views: Views) -> Response:
        return_to = query_of(request).get("return_to")
        state, verifier, nonce = (base64url.encode(self._entropy(_BYTES)) for _ in range(3))
        begun = _Begun(
            state,
            verifier,
            nonce,
            return_to if is_own_page(return_to, views.url()) else views.url(),
            self._clock.now() + LOGIN_TTL,
        )
        parameters = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_uri,
            "scope": " ".join(self._client.scopes()),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64url.encode(hashlib.sha256(verifier.encode()).digest()),
            "code_challenge_method": "S256",
            "resource": self._issuer,
        }
        url = f"{self._issuer.rstrip('/')}{discovery.AUTHORIZE}?{urlencode(parameters)}"
        response = RedirectResponse(url, 303, CONSOLE_HEADERS)
        self._cookies.add(request, response, state, self._sealer.seal(_encode(begun)))
        return response

    async def _complete(self, request: Request, views: Views) -> Response:
        parameters = query_of(request)
        begun = await self._begun(request, parameters.get("state"))
        if parameters.get("iss") != self._issuer:
            raise InvalidRequestError.of("iss", "is not this service (RFC 9207); log in again")
        if parameters.get("error"):
            response = views.html(
                "login_failed.html",
                403,
                visit=None,
                error=parameters.get("error"),
                description=parameters.get("error_description"),
                login=views.url(LOGIN, return_to=begun.return_to),
            )
            self._cookies.delete(response, begun.state)
            return response
        code = parameters.required("code")
        try:
            tokens = await self._client.exchange(code, begun.verifier, origin_of(request))
        except GrantInvalidError as error:
            raise InvalidRequestError.of("code", f"is not accepted ({error.message}); log in again") from None
        if tokens.id_token:
            await self._require_nonce(tokens.id_token, begun.nonce)
        try:
            stored = await self._sessions.begin(tokens)
        except LoginNeededError as error:
            raise InvalidRequestError.of("code", error.reason) from None
        # No redirection: a browser that came from another site would leave the strict cookie out after one.
        response = views.html("onward.html", visit=None, to=begun.return_to)
        self._sessions.set(response, stored)
        self._cookies.delete(response, begun.state)
        return response

    async def _begun(self, request: Request, state: str) -> _Begun:
        sealed = self._cookies.read(request, state) if state else ""
        try:
            begun = _decode(await self._sealer.open(sealed)) if sealed else None
        except (OpaqueTokenError, msgspec.MsgspecError):
            begun = None
        if begun is None or begun.state != state or begun.expire_time <= self._clock.now():
            raise InvalidRequestError.of(
                "state",
                "is of no login to the console that this browser has begun, or it took too long; log in again",
            )
        return begun

    async def _require_nonce(self, id_token: str, nonce: str) -> None:
        query = TokenQuery(id_token, audience=self._client.client_id, kind=TokenKind.ID)
        answer = await self._introspector.validate(Caller.system(), query)
        if not isinstance(answer.claims, VerifiedClaims) or answer.claims.payload.get("nonce") != nonce:
            raise InvalidRequestError.of("code", "is of another login; log in again")

    def _keep(self, session: LiveSession) -> Callable[[Response], None]:
        return lambda response: self._sessions.set(response, session.stored)


def is_own_page(path: str, base: str) -> bool:
    """Tell whether a text is the path of a page of the console, so that a browser can be sent there."""
    if len(path) > MAX_RETURN or not path.isprintable() or "\\" in path or not path.startswith(base):
        return False
    below = path.removeprefix(base).partition("?")[0]
    return _BELOW.fullmatch(below) is not None and below not in {f"/{LOGIN}", f"/{CALLBACK}", "/logout"}


def origin_of_url(url: str) -> str:
    """Return the origin of a URL as browsers write it."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
