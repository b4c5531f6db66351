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
from starlette.routing import Route

from token_service.errors import InternalError, ServiceError
from token_service.wire import HTTP_STATUS

KEY_SET_MAX_AGE: Final = 300
"""Seconds a reader may use the key set without asking again, at most. A new key must be published for longer
before it signs.
"""


def make_app(
    jwks: Callable[[], bytes],
    readiness: Callable[[], Sequence[str]],
    *,
    key_set_max_age: int = KEY_SET_MAX_AGE,
) -> Starlette:
    """The application.

    `jwks` gives the key set as JSON, or raises a `ServiceError` if there is none yet; an empty one is never
    served. `readiness` gives what keeps this process from serving calls, nothing if it is ready.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_UNCACHED)

    async def readyz(_: Request) -> Response:
        problems = readiness()
        body = {"ready": not problems, "problems": list(problems)}
        return JSONResponse(body, 503 if problems else 200, _UNCACHED)

    async def key_set(request: Request) -> Response:
        body = jwks()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"Cache-Control": f"public, max-age={key_set_max_age}", "ETag": etag}
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/jwk-set+json", headers=headers)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/.well-known/jwks.json", key_set),
        ],
        exception_handlers={ServiceError: _refuse, Exception: _fail},
    )


_UNCACHED: Final = {"Cache-Control": "no-store"}


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison (RFC 9110, section 13.1.2)."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return any(tag in {etag, "*"} for tag in tags)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = dict(_UNCACHED)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    body = {"error": {"reason": error.reason.value, "message": error.message}}
    return JSONResponse(body, HTTP_STATUS[error.reason], headers)


async def _fail(request: Request, _: Exception) -> Response:
    # Starlette raises the exception again after this answer, and the server logs it.
    return await _refuse(request, InternalError())
