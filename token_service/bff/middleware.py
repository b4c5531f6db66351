"""The backend-for-frontend as ASGI middleware (RFC 10017, section 6.1)."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from token_service.bff.browser_origin import origin_headers
from token_service.bff.browser_session import BrowserSession
from token_service.bff.config import BffConfig
from token_service.bff.cookies import Cookies
from token_service.bff.exchange import (
    App,
    BadRequestError,
    Receive,
    Response,
    Scope,
    Send,
    json_response,
    respond,
    text_response,
)
from token_service.bff.failures import ProviderUnavailableError, SessionEndedError
from token_service.bff.login import Login
from token_service.bff.logout import Logout
from token_service.bff.origin import is_foreign, refusal
from token_service.bff.provider import OpenIdProvider
from token_service.bff.renewal import Renewal
from token_service.bff.sessions import OpenedSession, Sessions, key_of
from token_service.bff.store import SessionStore
from token_service.client._internal.request_path import readings
from token_service.clock import Clock, SystemClock
from token_service.errors import ConfigurationError, StoreUnavailableError

_METHODS: Final = {
    "login": "GET",
    "callback": "GET",
    "session": "GET",
    "logout": "POST",
    "backchannel-logout": "POST",
}


class BackendForFrontend:
    """Middleware that logs users in at an OpenID provider and keeps their tokens out of the browser.

    It serves the endpoints below `prefix`:

    - `GET login?return_to=/path`: leads to the provider, and in the end to the path;
    - `GET callback`: the redirect URI to register;
    - `GET session`: JSON with the claims of the configuration, or 401; it does not count as use of the session;
    - `POST logout`: ends the session here, and at the provider as `ProviderLogout` says;
    - `POST backchannel-logout`: for the provider alone.

    For every other request it sets `scope["state"]["session"]` to a `BrowserSession` or None and hides its cookies from
    the application. A session whose access token has expired is renewed first: if the provider ended it, the request
    has no session, and if the provider does not answer, the request gets 503.

    Unsafe requests and WebSockets of other origins get 403; `bff.origin` has the rule.
    """

    def __init__(
        self, app: App, config: BffConfig, store: SessionStore, *, clock: Clock | None = None
    ) -> None:
        """Do no I/O. Connections to the provider open with the first login."""
        self._app = app
        self._config = config
        self._clock = clock or SystemClock()
        self._cookies = Cookies(config.requests)
        self._provider = OpenIdProvider(config.provider, self._clock)
        self._sessions = Sessions(store, config)
        self._renewal = Renewal(self._sessions, self._provider, self._clock, config.provider.timeout)
        parts = (config, self._provider, self._sessions, self._cookies, self._clock)
        self._login = Login(*parts)
        self._logout = Logout(*parts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish the renewals in progress and close the connections. The server's lifespan does this too."""
        await self._renewal.aclose()
        await self._provider.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self.aclose()
            return
        if scope["type"] not in {"http", "websocket"}:
            raise ConfigurationError(
                f"a connection of type {scope['type']!r} has no session; serve http and websocket only"
            )
        try:
            served = await self._admit(scope, receive)
        except BadRequestError as error:
            served = text_response(error.status, str(error))
        except (ProviderUnavailableError, StoreUnavailableError) as error:
            served = text_response(
                503,
                "the login service or the sessions are not available now; try again",
                retry_after=error.retry_after or 1.0,
            )
        if isinstance(served, Response):
            await respond(scope, receive, send, served)
        else:
            await self._app(served, receive, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Response | Scope:
        """Return the response to a request, or the scope for the application."""
        endpoint = self._endpoint(scope)
        allowed = endpoint == "backchannel-logout" or self._is_cross_origin(scope)
        if not allowed:
            why = refusal(scope, self._config.public_url, self._config.requests.csrf_header)
            if why is not None:
                return text_response(403, why)
        if endpoint is not None:
            return await self._serve(endpoint, scope, receive)
        opened = None if allowed else await self._session(scope, is_use=True)
        session = opened and BrowserSession(
            opened, self._sessions, self._renewal, self._clock, origin_headers(scope, self._config.provider)
        )
        return {
            **scope,
            "headers": self._cookies.hide(scope),
            "state": {**scope.get("state", {}), "session": session},
        }

    async def _serve(self, endpoint: str, scope: Scope, receive: Receive) -> Response:
        method = _METHODS.get(endpoint)
        if method is None or scope["type"] == "websocket":
            return text_response(404, "not found")
        if scope["method"] != method:
            return Response(405, headers=((b"allow", method.encode()),))
        if endpoint == "login":
            return await self._login.begin(scope)
        if endpoint == "callback":
            return await self._login.complete(scope)
        if endpoint == "logout":
            return await self._logout.by_user(scope)
        if endpoint == "backchannel-logout":
            return await self._logout.by_provider(scope, receive)
        return await self._describe(scope)

    async def _describe(self, scope: Scope) -> Response:
        """Return what the browser may know of its session. Scripts of other origins get nothing."""
        if is_foreign(scope):
            return text_response(403, "the request comes from another site or another origin")
        opened = await self._session(scope, is_use=False)
        if opened is None:
            return json_response(401, {"authenticated": False})
        claims = opened.content.claims
        shown = {name: claims[name] for name in sorted(self._config.sessions.claims) if name in claims}
        left = max(0, int(opened.expire_time - self._clock.now()))
        return json_response(200, {"authenticated": True, "claims": shown, "expires_in": left})

    async def _session(self, scope: Scope, *, is_use: bool) -> OpenedSession | None:
        """Return the session of the cookie with a valid access token, and count the request as a use of it."""
        session_id = self._cookies.session_id(scope)
        if session_id is None:
            return None
        now = self._clock.now()
        opened = await self._sessions.load(key_of(session_id), now)
        if opened is None:
            return None
        if is_use:
            await self._sessions.touch(opened, now)
        try:
            return await self._renewal.usable(opened, origin_headers(scope, self._config.provider))
        except SessionEndedError:
            return None

    def _endpoint(self, scope: Scope) -> str | None:
        """Return the part of the path after the prefix; None for a path of the application."""
        path, prefix = scope["path"], self._config.prefix
        if path == prefix:
            return ""
        return path[len(prefix) + 1 :] if path.startswith(f"{prefix}/") else None

    def _is_cross_origin(self, scope: Scope) -> bool:
        """Return whether every router reads this path as one that is open to other origins."""
        found = readings(scope)
        return len(found) == 1 and found <= set(self._config.requests.cross_origin_paths)
