"""What is served over HTTP, as an ASGI application.

- `GET /healthz`: 200 as long as the process answers at all. A failure means: restart it.
- `GET /readyz`: 200 if calls may be sent here, else 503 with what is missing. A failure means: send calls
  elsewhere.
- `GET /.well-known/jwks.json`: the key set (RFC 7517, section 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from token_service.core.access.gate import UseCase
from token_service.web.edge import UNCACHED, HttpEdge

KEY_SET_MAX_AGE: Final = 300
"""Seconds a reader may use the key set without asking again, at most. A new key must be published for longer
before it signs.
"""


def make_app(
    jwks: Callable[[], bytes],
    readiness: Callable[[], Sequence[str]],
    *,
    edge: HttpEdge | None = None,
    key_announce_time: float = float("inf"),
) -> Starlette:
    """Return the application.

    `jwks` gives the key set as JSON, or raises a `ServiceError` if there is none yet; an empty one is never
    served. `readiness` gives what keeps this process from serving calls, nothing if it is ready.
    `key_announce_time`: seconds a key is published before it signs. A reader may cache the key set for a third.
    """
    edge = edge or HttpEdge()
    max_age = int(min(KEY_SET_MAX_AGE, key_announce_time / 3))

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=UNCACHED)

    async def readyz(_: Request) -> Response:
        problems = readiness()
        body = {"ready": not problems, "problems": list(problems)}
        return JSONResponse(body, 503 if problems else 200, UNCACHED)

    async def key_set(request: Request) -> Response:
        body = jwks()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"Cache-Control": f"public, max-age={max_age}", "ETag": etag}
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/jwk-set+json", headers=headers)

    return Starlette(
        routes=[
            edge.route("/healthz", UseCase.GET_HEALTH, healthz, always=True),
            edge.route("/readyz", UseCase.GET_HEALTH, readyz, always=True),
            edge.route("/.well-known/jwks.json", UseCase.GET_KEY_SET, key_set),
        ]
    )


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, section 13.1.2)."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)
