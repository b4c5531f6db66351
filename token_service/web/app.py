"""The HTTP endpoints, as an ASGI application: the probes and `GET /.well-known/jwks.json`, the key set (RFC 7517,
section 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from token_service.core.access.gate import UseCase
from token_service.web.edge import UNCACHED, HttpEdge
from token_service.web.oauth.cors import ANY_ORIGIN
from token_service.web.probes import Probes

KEY_SET_MAX_AGE: Final = 300
"""Longest time in seconds that a reader may cache the key set. A new key must be published for longer before it signs."""


def make_app(
    jwks: Callable[[], bytes],
    probes: Probes,
    *,
    edge: HttpEdge | None = None,
    routes: Sequence[Route] = (),
    key_announce_time: float = float("inf"),
    issuer_path: str = "",
) -> Router:
    """Return the application.

    `jwks` returns the key set as JSON, or raises a `ServiceError` before the keys are loaded; an empty key set is never
    served. `key_announce_time` is how many seconds a key is published before it signs. A reader may cache the key set for a
    third of this time. `routes` are those of further endpoints. The key set is also served below `issuer_path`, the path
    of the issuer, where the discovery document announces it.
    """
    edge = edge or HttpEdge()
    max_age = int(min(KEY_SET_MAX_AGE, key_announce_time / 3))

    async def key_set(request: Request) -> Response:
        body = jwks()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"Cache-Control": f"public, max-age={max_age}", "ETag": etag, **ANY_ORIGIN}
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/jwk-set+json", headers=headers)

    return _ExactRouter(
        routes=[
            *routes,
            *probes.routes(edge),
            *(
                edge.route(f"{path}/.well-known/jwks.json", UseCase.GET_KEY_SET, key_set)
                for path in dict.fromkeys(("", issuer_path))
            ),
        ]
    )


_CLOSED: Final = {**UNCACHED, "Connection": "close"}


class _ExactRouter(Router):
    """Finds a route by its method and path. No path has parameters, so none has to be matched with a pattern."""

    def __init__(self, routes: Sequence[Route]) -> None:
        # A redirect would repeat credentials to a URL built from the Host header (RFC 9700, sections 4.11 and 4.12).
        super().__init__(routes, redirect_slashes=False)
        self._exact = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the route of a request. The patterns decide about the others, and answer 404 or 405."""
        if scope["type"] == "http" and _is_ambiguous(scope["headers"]):
            response = PlainTextResponse("Transfer-Encoding and Content-Length\n", 400, _CLOSED)
            await response(scope, receive, send)
            return
        route = self._exact.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await super().app(scope, receive, send)
        else:
            await route.app(scope, receive, send)


def _is_ambiguous(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Tell whether a request has two lengths. Its connection must end: a proxy may have taken the other one.

    Otherwise the rest of its body could be the next request, of another client (RFC 9112, section 6.1).
    """
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


def _matches(if_none_match: str, etag: str) -> bool:
    """Compare tags weakly (RFC 9110, section 13.1.2)."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)
