"""One shop in each web framework, behind its real server."""

from __future__ import annotations

import asyncio
import socketserver
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Annotated, Any, Final

import flask
import uvicorn
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from werkzeug.serving import make_server

from tests.support.deadline import eventually
from tests.support.ports import free_port, release_port
from token_service.client.asgi import BearerAuthMiddleware
from token_service.client.config import ValidatorConfig
from token_service.client.fastapi import protect, require
from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.client.wsgi import BearerAuthWsgiMiddleware, current_claims
from token_service.tokens.claims import VerifiedClaims

ORIGIN: Final = "https://api.example"
PAGE: Final = "https://shop.example"
"""The origin of the pages whose scripts may call the shop."""
PROOFS: Final = ProofRules(origins=[ORIGIN], trusted_proxies=["127.0.0.1"], client_cert=True)
RULES: Final[dict[str, Any]] = {
    "scopes": {
        "/orders": ["orders:read"],
        "/reports": Requirements(roles=["clerk"]),
        "/payments": Requirements(acr_values=["urn:mfa"]),
    },
    "public": ["/healthz"],
    "realm": "shop",
    "proofs": PROOFS,
}
_CORS: Final[dict[str, Any]] = {"allow_origins": [PAGE], "allow_headers": ["authorization"]}

OrdersClaims = Annotated[VerifiedClaims, Depends(require("orders:read"))]
ReportsClaims = Annotated[VerifiedClaims, Depends(require(roles=["clerk"]))]
Serve = Callable[[ValidatorConfig, bool], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def starlette(config: ValidatorConfig, is_ready: bool) -> AsyncIterator[str]:  # noqa: FBT001
    """Serve the Starlette shop with uvicorn, and return its URL."""

    async def who(request: Request) -> PlainTextResponse:
        claims = request.scope.get("token_claims")
        assert claims is None or claims is current_claims()
        return PlainTextResponse("public" if claims is None else claims.subject)

    async with TokenValidator(config) as validator:
        app = Starlette(
            routes=[Route(path, who) for path in ("/orders", "/reports", "/payments", "/healthz")]
        )
        app.add_middleware(BearerAuthMiddleware, validator=validator, **RULES)
        app.add_middleware(CORSMiddleware, **_CORS)  # added last, so it is the outermost
        async with _ready(validator, is_ready), _uvicorn(app) as url:
            yield url


@asynccontextmanager
async def fastapi(config: ValidatorConfig, is_ready: bool) -> AsyncIterator[str]:  # noqa: FBT001
    """Serve the FastAPI shop with uvicorn, and return its URL."""
    app = FastAPI()

    @app.get("/orders")
    async def orders(claims: OrdersClaims) -> PlainTextResponse:
        return PlainTextResponse(claims.subject)

    @app.get("/reports")
    def reports(claims: ReportsClaims) -> PlainTextResponse:
        return PlainTextResponse(claims.subject)

    @app.get("/payments", dependencies=[Depends(require(acr_values=["urn:mfa"]))])
    async def payments(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.scope["token_claims"].subject)

    @app.get("/healthz")
    async def healthz() -> PlainTextResponse:
        return PlainTextResponse("public")

    app.add_middleware(CORSMiddleware, **_CORS)
    async with TokenValidator(config) as validator:
        protect(app, validator, realm="shop", proofs=PROOFS)
        async with _ready(validator, is_ready), _uvicorn(app) as url:
            yield url


@asynccontextmanager
async def flask_shop(config: ValidatorConfig, is_ready: bool) -> AsyncIterator[str]:  # noqa: FBT001
    """Serve the Flask shop with the server of werkzeug, and return its URL."""
    with SyncTokenValidator(config) as validator:
        if is_ready:
            assert await asyncio.to_thread(validator.wait_ready, 60)
        app = flask_app()
        app.wsgi_app = BearerAuthWsgiMiddleware(app.wsgi_app, validator, pass_preflight=True, **RULES)  # type: ignore[method-assign]
        with werkzeug(app) as url:
            yield url


def flask_app() -> flask.Flask:
    """Return the shop without protection."""
    app = flask.Flask(__name__)

    @app.get("/healthz")
    def healthz() -> str:
        return _who()

    @app.get("/orders")
    @app.get("/reports")
    @app.get("/payments")
    def who() -> str:
        return _who()

    @app.after_request
    def cors(response: flask.Response) -> flask.Response:
        if flask.request.headers.get("origin") == PAGE:
            response.headers["access-control-allow-origin"] = PAGE
            response.headers["access-control-allow-headers"] = "authorization"
        return response

    return app


@asynccontextmanager
async def django(config: ValidatorConfig, is_ready: bool) -> AsyncIterator[str]:  # noqa: FBT001
    """Serve the Django shop with the server of `runserver`, and return its URL."""
    from django.conf import settings
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="tests.support.django_shop", SECRET_KEY="x")

    class Quiet(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name in the standard library
            pass

    with SyncTokenValidator(config) as validator:
        if is_ready:
            assert await asyncio.to_thread(validator.wait_ready, 60)
        server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet)
        server.set_app(
            BearerAuthWsgiMiddleware(get_wsgi_application(), validator, pass_preflight=True, **RULES)
        )
        with _in_thread(server):
            yield f"http://127.0.0.1:{server.server_port}"


SERVED: Final[dict[str, Serve]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "flask": flask_shop,
    "django": django,
}


def _who() -> str:
    try:
        return current_claims().subject
    except LookupError:
        return "public"


@contextmanager
def werkzeug(app: Any, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve a WSGI application with the server of werkzeug, and return its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
    with _in_thread(server):
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"


@contextmanager
def _in_thread(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@asynccontextmanager
async def _ready(validator: TokenValidator, is_ready: bool) -> AsyncIterator[None]:  # noqa: FBT001
    if is_ready:
        assert await validator.wait_ready(60)
    yield


@asynccontextmanager
async def _uvicorn(app: Any) -> AsyncIterator[str]:
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, ws="none", proxy_headers=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving
        release_port(port)
