"""ASGI middleware that requires a valid access token for each request whose path is not public (RFC 6750, RFC 9449).

    app = BearerAuthMiddleware(app, validator, scopes={"POST /orders": ["orders:write"], "/admin/*": ["admin"]}, public=["/healthz"])

The application reads the claims from `scope["token_claims"]` or `current_claims()`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote

from token_service.client._internal.bearer import CLAIMS, current_claims
from token_service.client._internal.http_gate import DOCUMENT_HEADERS, HttpGate, is_preflight
from token_service.client._internal.http_refusals import Refusal
from token_service.client._internal.http_request import BadRequestError, HttpRequest
from token_service.client._internal.request_path import readings
from token_service.client._internal.route_rules import Route, RouteRules
from token_service.client._internal.transaction import TRANSACTION, Transaction
from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.client.resource_metadata import ResourceMetadata
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError, InvalidTokenError, ServiceError

__all__ = ["BearerAuthMiddleware", "current_claims"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION: Final = 1008  # RFC 6455, section 7.4.1
TRY_AGAIN_LATER: Final = 1013


class BearerAuthMiddleware:
    """Middleware that admits requests with a valid token and answers other requests 400, 401, 403 or 503.

    Responses 400, 401 and 403 carry `WWW-Authenticate`.

    A rule is `/path` or `METHOD /path` and covers this path alone, with or without a slash at its end. A rule
    that ends in `/*` covers the path and all paths below it. Rules are written decoded and without
    placeholders. The longest matching path decides; a rule with a method has priority over a rule without one. A
    path without a rule needs a valid token and `default_scopes`.

    The middleware answers 400 to a path that routers could read in different ways. Such a path has control
    characters, backslashes, `.`, `..` or empty segments, an encoded slash, or a `raw_path` that differs from
    `path`; or it needs other scopes when it is decoded twice, cut at a decoded `?` or `#`, or stripped of
    `;parameters`. A method that is not in upper case also gets 400. WebSockets are refused before they are
    accepted; their rules use the method GET. A scope of unknown type raises an exception, as ASGI requires.

    A token that is bound to a key needs a proof of possession: a DPoP proof (RFC 9449), or the client certificate
    (RFC 8705) from the TLS extension of ASGI or from a trusted proxy. `ProofRules` has the settings.

    Rules apply to paths as this middleware receives them. An application with its own `root_path`, such as
    `FastAPI(root_path="/api")`, strips it from paths afterwards. So add the middleware inside the application, with
    `app.add_middleware`, and do not wrap the application in it.
    """

    def __init__(
        self,
        app: App,
        validator: TokenValidator,
        *,
        scopes: Mapping[str, Collection[str] | Requirements] | None = None,
        default_scopes: Collection[str] | Requirements = (),
        public: Collection[str] = (),
        audience: str | None = None,
        realm: str = "",
        resource_metadata: ResourceMetadata | str | None = None,
        proofs: ProofRules | None = None,
        allow_bound_tokens: bool = False,
        pass_preflight: bool = False,
        trust_domain: str = "",
    ) -> None:
        """Configure the rules.

        `scopes` and `default_scopes` are scopes or more `Requirements`. `audience` replaces the audience of the
        validator. `resource_metadata` is the document that the middleware serves (RFC 9728), or its URL if another
        server serves it. `allow_bound_tokens` accepts tokens bound to a key (`cnf`) without proof that the caller has
        the key, for applications that check the proof themselves. `pass_preflight` hands CORS preflights to the
        application, for applications that answer them and are not within a CORS middleware. With a `trust_domain`,
        requests need a transaction token of this domain in `Txn-Token`, instead of an access token; the validator must
        accept the kind TRANSACTION.
        """
        self._app = app
        self._validator = validator
        self._rules = RouteRules(scopes or {}, default_scopes, public, trust_domain or audience)
        self._pass_preflight = pass_preflight
        self._gate = HttpGate(
            realm=realm,
            resource_metadata=resource_metadata,
            proofs=proofs,
            allow_bound_tokens=allow_bound_tokens,
            trust_domain=trust_domain,
        )

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
        paths = readings(scope)
        gate = self._gate
        if gate.document is not None and kind == "http" and gate.asks_for_document(method, paths):
            await _answer(scope, receive, send, 200, DOCUMENT_HEADERS, gate.document)
            return
        route: Route | None = None
        transaction: Transaction | None = None
        try:
            route = self._rules.route(method, paths)
            if route is None or (self._pass_preflight and is_preflight(method, partial(header, scope))):
                claims = None
            else:
                token, scheme = gate.credentials(partial(header, scope))
                claims = await self._validator.validate(
                    token, audience=route.audience, required_scopes=route.scopes
                )
                transaction = gate.transaction(token, claims)
                gate.admit(claims, token, scheme, route.more, scope, http_request, self._validator)
        except (BadRequestError, InvalidTokenError, ServiceError) as error:
            await _refuse(scope, receive, send, gate.refuse(error, route.requirements if route else None))
            return
        if claims is None:
            await self._app(scope, receive, send)
            return
        scope["token_claims"] = claims
        reset, before = CLAIMS.set(claims), TRANSACTION.set(transaction)
        try:
            await self._app(scope, receive, send)
        finally:
            CLAIMS.reset(reset)
            TRANSACTION.reset(before)


def http_request(scope: Scope) -> HttpRequest:
    """Return the parts of a connection that proofs of possession are about."""
    root, raw = str(scope.get("root_path", "")), scope.get("raw_path")
    # Servers and frameworks disagree on whether paths begin with the root. The client sent them with the root.
    target = quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    if root not in {"", "/"} and not unquote(f"{target}/").startswith(f"{root}/"):
        target = quote(root) + target
    tls = (scope.get("extensions") or {}).get("tls") or {}
    return HttpRequest(
        method=str(scope["method"]) if scope["type"] == "http" else "GET",
        path=target,
        peer=_peer(scope),
        certificate=next(iter(tls.get("client_cert_chain") or ()), ""),
        header=partial(header, scope),
    )


def _peer(scope: Scope) -> str:
    client, server = scope.get("client"), scope.get("server")
    if client:
        return str(client[0])
    # A server does not know the address of a TCP client that has already reset its connection. It is no unix socket,
    # whose proxy may be trusted: those have no port.
    return "unknown" if server and server[1] is not None else ""


def header(scope: Scope, name: str) -> list[str]:
    """Return the values of a header; its name is in lower case."""
    wanted = name.encode()
    return [value.decode("latin-1") for each, value in scope["headers"] if each == wanted]


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    """Answer a request, or a WebSocket that is not accepted yet."""
    headers = (("content-type", "text/plain; charset=utf-8"), ("cache-control", "no-store"), *refusal.headers)
    await _answer(scope, receive, send, refusal.status, headers, refusal.body.encode())


async def _answer(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    headers: Collection[tuple[str, str]],
    body: bytes,
) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            # The server turns this into a 403.
            code = TRY_AGAIN_LATER if status == 503 else POLICY_VIOLATION
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
                (b"content-length", str(len(body)).encode()),
                *((name.encode(), value.encode("latin-1")) for name, value in headers),
            ],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": body})
