from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.ports import free_port, release_port
from tests.unit.client.conftest import config_for
from token_service.client._internal.challenges import parse_challenges
from token_service.client.asgi import BearerAuthMiddleware, current_claims, http_request
from token_service.client.proof_rules import ProofRules
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError

RULES: dict[str, Any] = {
    "scopes": {
        "POST /orders": ["orders:write"],
        "/orders": ["read"],
        "/admin/*": ["admin"],
        "/admin/status": ["read"],
    },
    "default_scopes": ["read"],
    "public": ["/healthz", "/static/*", "GET /catalog/*"],
    "realm": "shop",
}


async def who(request: Request) -> JSONResponse:
    await asyncio.sleep(0)
    try:
        claims = current_claims()
    except LookupError:
        return JSONResponse({"subject": None, "scope": "token_claims" in request.scope})
    assert request.scope["token_claims"] is claims
    return JSONResponse({"subject": claims.subject, "scope": True})


ROUTES = [Route("/{path:path}", who, methods=["GET", "POST", "PUT", "DELETE", "HEAD"])]


@asynccontextmanager
async def serving(validator: TokenValidator, **rules: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = BearerAuthMiddleware(Starlette(routes=ROUTES), validator, **{**RULES, **rules})
    port = free_port()
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="on", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False
        ) as client:
            yield client
    finally:
        server.should_exit = True
        await serving
        release_port(port)


@asynccontextmanager
async def ready(service: FakeTokenService, **options: Any) -> AsyncIterator[TokenValidator]:
    async with TokenValidator(config_for(service, **options)) as validator:
        assert await validator.wait_ready(60)
        yield validator


def bearer(service: FakeTokenService, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {service.mint.token(time.time(), **claims)}"}


async def test_requests_are_allowed_or_refused_by_the_rules(service: FakeTokenService) -> None:
    async with ready(service) as validator, serving(validator) as client:
        read, write = bearer(service), bearer(service, scope="orders:write read", sub="alice")
        admin = bearer(service, scope="admin")
        for method, path, headers, status in [
            ("GET", "/orders", read, 200),
            ("GET", "/orders/", read, 200),
            ("HEAD", "/orders", read, 200),
            ("POST", "/orders", read, 403),
            ("POST", "/orders", write, 200),
            ("POST", "/orders/", read, 403),
            ("PUT", "/orders", read, 200),
            ("GET", "/anything/else", read, 200),
            ("GET", "/anything/else", admin, 403),
            ("GET", "/admin", read, 403),
            ("GET", "/admin/", read, 403),
            ("GET", "/admin/users/7", read, 403),
            ("GET", "/admin/users/7", admin, 200),
            ("GET", "/admin/status", read, 200),
            ("GET", "/admin/status/more", read, 403),
            ("GET", "/administrators", read, 200),
            ("GET", "/healthz", {}, 200),
            ("GET", "/healthz/more", {}, 401),
            ("GET", "/static/a/b.css", {}, 200),
            ("GET", "/static", {}, 200),
            ("GET", "/statics", {}, 401),
            ("GET", "/catalog/1", {}, 200),
            ("HEAD", "/catalog/1", {}, 200),
            ("DELETE", "/catalog/1", {}, 401),
            ("DELETE", "/catalog/1", read, 200),
            ("GET", "/", {}, 401),
            ("GET", "/", read, 200),
        ]:
            response = await client.request(method, path, headers=headers)
            assert (method, path, response.status_code) == (method, path, status)
        assert (await client.get("/orders", headers=write)).json() == {"subject": "alice", "scope": True}
        assert (await client.get("/healthz", headers=read)).json() == {"subject": None, "scope": False}


async def test_ambiguous_paths_are_refused(service: FakeTokenService) -> None:
    async with ready(service) as validator, serving(validator) as client:
        headers = bearer(service)
        for path in (
            "/static/../admin/users",
            "/static/..%2fadmin",
            "/static/%2e%2e/admin",
            "/static/./x",
            "//admin",
            "/static//x",
            "/static/..",
            "/static/%5c..%5cadmin",
            "/admin%0A",
            "/orders%0a",
            "/orders%00",
            "/admin%2Fusers",
            "/admin%3Fx",
            "/%2561dmin",
        ):
            assert (path, await asyncio.to_thread(raw_status, client.base_url.port, path, headers)) == (
                path,
                400,
            )


def raw_status(port: int | None, path: str, headers: dict[str, str]) -> int:
    """Send the raw path, because httpx would normalize it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


async def test_challenges_follow_rfc_6750(service: FakeTokenService) -> None:
    async with ready(service) as validator, serving(validator) as client:
        now = int(time.time())
        for headers, status, challenge in [
            ({}, 401, 'Bearer realm="shop"'),
            ({"Authorization": "Basic dXNlcjpwYXNz"}, 401, 'Bearer realm="shop"'),
            (
                bearer(service, exp=now - 5, iat=now - 50, nbf=...),
                401,
                'Bearer realm="shop", error="invalid_token", error_description="the token has expired"',
            ),
            (
                {"Authorization": "Bearer garbage"},
                401,
                'Bearer realm="shop", error="invalid_token", error_description="not a JWS in compact form"',
            ),
            (
                bearer(service, scope="nothing"),
                403,
                (
                    'Bearer realm="shop", error="insufficient_scope", error_description="the token lacks a required scope",'
                    ' scope="read"'
                ),
            ),
            (
                bearer(service, cnf={"jkt": "x" * 43}),
                401,
                (
                    'Bearer realm="shop", error="invalid_token",'
                    ' error_description="the token is bound to a key, and the request does not prove possession of it"'
                ),
            ),
        ]:
            response = await client.get("/", headers=headers)
            assert (response.status_code, response.headers["www-authenticate"]) == (status, challenge)
            assert response.headers["cache-control"] == "no-store"
            [(scheme, parameters)] = parse_challenges(challenge)
            assert (scheme, parameters["realm"]) == ("bearer", "shop")
        twice = [("Authorization", bearer(service)["Authorization"])] * 2
        response = await client.get("/", headers=twice)
        assert response.status_code == 400
        assert 'error="invalid_request"' in response.headers["www-authenticate"]


async def test_stale_validator_answers_503_without_a_challenge(service: FakeTokenService) -> None:
    service.refuse_streams = service.refuse_unary = True
    async with TokenValidator(config_for(service)) as validator, serving(validator) as client:
        response = await client.get("/", headers=bearer(service))
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert "www-authenticate" not in response.headers


async def test_a_revoked_token_is_refused(service: FakeTokenService) -> None:
    async with ready(service) as validator, serving(validator) as client:
        headers = bearer(service, sub="eve")
        assert (await client.get("/", headers=headers)).status_code == 200
        service.revoke(subject="eve")
        await eventually(lambda: validator.counters.revocations == 1)
        response = await client.get("/", headers=headers)
        assert response.status_code == 401
        assert "revoked" in response.headers["www-authenticate"]


async def test_concurrent_requests_keep_their_claims_apart(service: FakeTokenService) -> None:
    async with ready(service) as validator, serving(validator) as client:

        async def one(number: int) -> None:
            response = await client.get("/", headers=bearer(service, sub=f"user-{number}"))
            assert response.json()["subject"] == f"user-{number}"
            assert (await client.get("/healthz")).json()["subject"] is None

        await asyncio.gather(*(one(number) for number in range(40)))


async def test_rules_below_a_mount_see_the_path_of_the_application(service: FakeTokenService) -> None:
    async with ready(service) as validator:
        inner = BearerAuthMiddleware(Starlette(routes=ROUTES), validator, **RULES)
        app = Starlette(routes=[Mount("/shop", app=inner)])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/shop/healthz")).status_code == 200
            assert (await client.get("/shop/orders")).status_code == 401
            assert (await client.get("/shop/orders", headers=bearer(service))).status_code == 200


async def websocket(
    app: Any, path: str, headers: dict[str, str], extensions: dict[str, Any]
) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "websocket",
        "path": path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "extensions": extensions,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_websockets_are_refused_before_they_are_accepted(service: FakeTokenService) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    async with ready(service) as validator:
        app = BearerAuthMiddleware(echo, validator, **RULES)
        assert await websocket(app, "/", bearer(service), {}) == [{"type": "websocket.accept"}]
        assert await websocket(app, "/healthz", {}, {}) == [{"type": "websocket.accept"}]
        assert await websocket(app, "/", {}, {}) == [{"type": "websocket.close", "code": 1008}]
        answered = await websocket(app, "/", {}, {"websocket.http.response": {}})
        assert answered[0]["type"] == "websocket.http.response.start"
        assert answered[0]["status"] == 401


@pytest.mark.parametrize(
    ("path", "raw_path", "root", "expected"),
    [
        ("/orders", b"/orders", "", "/orders"),
        ("/orders", b"/%6Frders?x=1", "", "/%6Frders"),
        ("/caf\xe9 1", None, "", "/caf%C3%A9%201"),
        ("/api/orders", b"/api/orders", "/api", "/api/orders"),
        ("/api", b"/api", "/api", "/api"),
        ("/orders", b"/orders", "/api", "/api/orders"),
        ("/orders", None, "/api", "/api/orders"),
        ("/api/orders", b"/orders", "/api", "/api/orders"),
        ("/apis", b"/apis", "/api", "/api/apis"),
        ("/orders", b"/orders", "/", "/orders"),
    ],
)
def test_a_proof_is_for_the_path_that_the_client_sent(
    path: str, raw_path: bytes | None, root: str, expected: str
) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": raw_path,
        "root_path": root,
        "headers": [],
    }
    assert http_request(scope).path == expected


async def test_lifespan_events_reach_the_application(service: FakeTokenService) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await BearerAuthMiddleware(app, TokenValidator(config_for(service)))({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


@pytest.mark.parametrize(
    "rules",
    [
        {"public": ["healthz"]},
        {"public": ["/static*"]},
        {"public": ["/a/*/b"]},
        {"public": ["get /x"]},
        {"public": ["/x", "/x/"]},
        {"public": ["/x"], "scopes": {"/x": ["a"]}},
        {"scopes": {"/x": "read"}},
        {"default_scopes": "read"},
        {"default_scopes": ["read write"]},
        {"scopes": {"/x": ['a"b']}},
        {"scopes": {"/x": [""]}},
        {"realm": 'a"b'},
        {"realm": "a\r\nb"},
    ],
    ids=range(13),
)
def test_ambiguous_rules_are_refused(service: FakeTokenService, rules: Any) -> None:
    with pytest.raises(ConfigurationError):
        BearerAuthMiddleware(None, TokenValidator(config_for(service)), **rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("client", "server", "trusted"),
    [
        (None, ("/run/app.sock", None), True),
        (None, None, True),
        # So uvicorn describes a client that sent a request and reset its TCP connection.
        (None, ("127.0.0.1", 8000), False),
        (("127.0.0.1", 50000), ("127.0.0.1", 8000), False),
    ],
)
def test_only_a_unix_socket_is_trusted_as_one(client: Any, server: Any, *, trusted: bool) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "client": client, "server": server}
    assert ProofRules(trusted_proxies=["unix"]).trusts(http_request(scope).peer) is trusted
