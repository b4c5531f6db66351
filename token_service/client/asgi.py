"""ASGI middleware that requires a valid bearer token for each request whose path is not public (RFC 6750).

    app = BearerAuthMiddleware(app, validator, scopes={"POST /orders": ["orders:write"], "/admin/*": ["admin"]}, public=["/healthz"])

The application reads the claims from `scope["token_claims"]` or `current_claims()`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from token_service.client._internal.bearer import CLAIMS, bearer_token, current_claims, require_bearer
from token_service.client._internal.request_path import is_plain, readings
from token_service.client.validator import TokenValidator
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    InvalidReason,
    InvalidTokenError,
    ReplicaStaleError,
)

__all__ = ["BearerAuthMiddleware", "current_claims"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_RULE: Final = re.compile(r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^*\s]*)(?P<all>\*)?")
_NEVER_IN_A_RULE: Final = re.compile(r"[{};?#]|%[0-9A-Fa-f]{2}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")  # RFC 6749, section 3.3
_POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1
_TRY_AGAIN_LATER: Final = 1013
_RETRY_AFTER: Final = b"1"


class BearerAuthMiddleware:
    """Middleware that admits requests with a valid token and answers other requests 400, 401, 403 or 503.

    Responses 401 and 403 carry `WWW-Authenticate`.

    A rule is `/path` or `METHOD /path` and covers this path alone, with or without a slash at its end. A rule
    that ends in `/*` covers the path and all paths below it. Rules are written decoded and without
    placeholders. The longest matching path decides; a rule with a method has priority over a rule without one. A
    path without a rule needs a valid token and `default_scopes`.

    The middleware answers 400 to a path that routers could read in different ways. Such a path has control
    characters, backslashes, `.`, `..` or empty segments, an encoded slash, or a `raw_path` that differs from
    `path`; or it needs other scopes when it is decoded twice, cut at a decoded `?` or `#`, or stripped of
    `;parameters`. A method that is not in upper case also gets 400. WebSockets are refused before they are
    accepted; their rules use the method GET. A scope of unknown type raises an exception, as ASGI requires.

    Rules apply to paths as this middleware receives them. An application with its own `root_path`, such as
    `FastAPI(root_path="/api")`, strips it from paths afterwards. So add the middleware inside the application, with
    `app.add_middleware`, and do not wrap the application in it.
    """

    def __init__(
        self,
        app: App,
        validator: TokenValidator,
        *,
        scopes: Mapping[str, Collection[str]] | None = None,
        default_scopes: Collection[str] = (),
        public: Collection[str] = (),
        audience: str | None = None,
        realm: str = "",
        allow_bound_tokens: bool = False,
    ) -> None:
        """Configure the rules.

        `audience` replaces the audience of the validator. `allow_bound_tokens` accepts tokens bound to a key
        (`cnf`) without proof that the caller has the key, for applications that check the proof themselves.
        """
        self._app = app
        self._validator = validator
        self._default = frozenset(_checked("default_scopes", default_scopes))
        self._audience = audience
        self._realm = realm
        self._allow_bound_tokens = allow_bound_tokens
        self._exact: dict[tuple[str, str], frozenset[str] | None] = {}
        self._below: dict[tuple[str, str], frozenset[str] | None] = {}
        if any(ord(character) < 32 or character in '"\\' or ord(character) > 126 for character in realm):
            raise ConfigurationError("the realm must be printable ASCII without quotes and backslashes")
        for rule, needed in (scopes or {}).items():
            self._add(rule, frozenset(_checked(rule, needed)))
        for rule in public:
            self._add(rule, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in {"http", "websocket"}:
            raise ConfigurationError(
                f"a connection of type {kind!r} can't be checked for a token; serve http and websocket only"
            )
        method = str(scope["method"]) if kind == "http" else "GET"
        if method != method.upper():
            await _answer(scope, receive, send, 400, [], b"the method is not in upper case")
            return
        needed = {self._required(method, path) for path in readings(scope)}
        if len(needed) != 1:
            await _answer(scope, receive, send, 400, [], b"the path can be read in more than one way")
            return
        required = needed.pop()
        if required is None:
            await self._app(scope, receive, send)
            return
        try:
            claims = await self._validator.validate(
                _token(scope["headers"]), audience=self._audience, required_scopes=required
            )
            if not self._allow_bound_tokens:
                require_bearer(claims)
        except CallerUnauthenticatedError as error:
            await self._challenge(scope, receive, send, 401, {}, error.message)
        except _AmbiguousRequestError as error:
            params = {"error": "invalid_request", "error_description": error.message}
            await self._challenge(scope, receive, send, 400, params, error.message)
        except InvalidTokenError as error:
            lacks = error.reason is InvalidReason.INSUFFICIENT_SCOPE
            params = {
                "error": "insufficient_scope" if lacks else "invalid_token",
                "error_description": error.message,
            }
            if lacks:
                params["scope"] = " ".join(sorted(required))
            await self._challenge(scope, receive, send, 403 if lacks else 401, params, error.message)
        except ReplicaStaleError as error:
            await _answer(scope, receive, send, 503, [(b"retry-after", _RETRY_AFTER)], error.message.encode())
        else:
            scope["token_claims"] = claims
            token = CLAIMS.set(claims)
            try:
                await self._app(scope, receive, send)
            finally:
                CLAIMS.reset(token)

    def _add(self, rule: str, needed: frozenset[str] | None) -> None:
        match = _RULE.fullmatch(rule)
        if match is None or (match["all"] and not match["path"].endswith("/")):
            raise ConfigurationError(
                f"the rule {rule!r} must be `/path` or `/path/*`, optionally after `METHOD `"
            )
        if not is_plain(match["path"]) or _NEVER_IN_A_RULE.search(match["path"]):
            raise ConfigurationError(
                f"the rule {rule!r} matches no request: write the path decoded, without empty or dot segments,"
                " placeholders, `;`, `?` and `#`; `/path/*` covers all paths below"
            )
        table = self._below if match["all"] else self._exact
        key = (match["method"] or "", match["path"].rstrip("/"))
        if key in table:
            raise ConfigurationError(f"the rule {rule!r} occurs twice; remove one")
        table[key] = needed

    def _required(self, method: str, path: str) -> frozenset[str] | None:
        """Return the scopes a request needs, or None if its path is public."""
        methods = ("HEAD", "GET", "") if method == "HEAD" else (method, "")
        at = path.rstrip("/")
        for name in methods:
            if (name, at) in self._exact:
                return self._exact[name, at]
        while True:
            for name in methods:
                if (name, at) in self._below:
                    return self._below[name, at]
            if not at:
                return self._default
            at = at.rpartition("/")[0]

    async def _challenge(
        self, scope: Scope, receive: Receive, send: Send, status: int, params: Mapping[str, str], text: str
    ) -> None:
        said = ({"realm": self._realm} if self._realm else {}) | dict(params)
        challenge = "Bearer" + ",".join(f' {name}="{_quotable(value)}"' for name, value in said.items())
        await _answer(
            scope, receive, send, status, [(b"www-authenticate", challenge.encode("ascii"))], text.encode()
        )


class _AmbiguousRequestError(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _checked(name: str, scopes: Collection[str]) -> Collection[str]:
    if isinstance(scopes, str):
        raise ConfigurationError(f"the scopes of {name} must be a collection, not one string")
    for scope in scopes:
        if _SCOPE.fullmatch(scope) is None:
            raise ConfigurationError(
                f"the scope {scope!r} of {name} has characters that a scope may not have"
            )
    return scopes


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        raise CallerUnauthenticatedError("a bearer token is needed")
    if len(found) > 1:
        raise _AmbiguousRequestError("more than one Authorization header")
    token = bearer_token(found[0].decode("latin-1"))
    if token is None:
        raise CallerUnauthenticatedError("a bearer token is needed")
    return token


def _quotable(text: str) -> str:
    """Replace characters that a quoted string of a challenge may not contain (RFC 6750, section 3)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text)


async def _answer(
    scope: Scope, receive: Receive, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            # The server turns this into a 403.
            code = _TRY_AGAIN_LATER if status == 503 else _POLICY_VIOLATION
            await send({"type": "websocket.close", "code": code})
            return
        prefix = "websocket.http"
    else:
        prefix = "http"
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                *headers,
            ],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": body})
