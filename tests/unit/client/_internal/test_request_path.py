"""Routers and the rules that protect them read every path in the same way."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from hypothesis import given, settings, strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from token_service.client._internal.request_path import readings
from token_service.client.asgi import BearerAuthMiddleware
from token_service.errors import ConfigurationError, InvalidReason, InvalidTokenError
from token_service.tokens.claims import TokenKind

RULES: dict[str, Any] = {
    "scopes": {"/admin": ["admin"], "/admin/*": ["admin"]},
    "default_scopes": ["read"],
    "public": ["/static/*"],
}


class Reader:
    """A validator that accepts every token, with the scope `read` alone."""

    async def validate(self, token: str, *, audience: str | None, required_scopes: frozenset[str]) -> Any:
        if not required_scopes <= {"read"}:
            raise InvalidTokenError(InvalidReason.INSUFFICIENT_SCOPE)
        return type("Claims", (), {"confirmation": {}, "kind": TokenKind.ACCESS})()


def scope_of(raw: str, kind: str = "http", root: str = "", **changes: Any) -> dict[str, Any]:
    """Return the ASGI scope that uvicorn makes for a request target."""
    return {
        "type": kind,
        "path": root + unquote(raw),
        "raw_path": root.encode() + raw.encode("ascii"),
        "root_path": root,
        "query_string": b"",
        "headers": [(b"host", b"shop.test")],
        **({"method": "GET"} if kind == "http" else {"extensions": {"websocket.http.response": {}}}),
        **changes,
    }


async def answer(app: Any, scope: dict[str, Any], *, token: bool = True) -> tuple[int, str]:
    """Return status and body. The status is 101 for an accepted WebSocket."""
    if token:
        scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer good")]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"} if scope["type"] == "http" else {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status = 101 if sent[0]["type"] == "websocket.accept" else int(sent[0].get("status", 403))
    return status, b"".join(message.get("body", b"") for message in sent).decode()


async def admin(request: Request) -> PlainTextResponse:
    return PlainTextResponse("admin")


async def static(request: Request) -> PlainTextResponse:
    return PlainTextResponse("static")


async def other(request: Request) -> PlainTextResponse:
    return PlainTextResponse("other")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


STARLETTE = Starlette(
    routes=[
        Route("/admin", admin),
        Mount("/admin", routes=[Route("/{name:path}", admin)]),
        WebSocketRoute("/admin", socket),
        WebSocketRoute("/admin/{name:path}", socket),
        Route("/static", static),
        Route("/static/{name:path}", static),
        Route("/{name:path}", other),
    ]
)


def by_path(read: Callable[[dict[str, Any]], str]) -> Any:
    """Return an application that routes by the path that `read` returns."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        first = read(scope).split("/")[1:2]
        name = first[0] if first in (["admin"], ["static"]) else "other"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name.encode()})

    return app


def dollar(path: str) -> str:
    return "/admin" if re.match(r"^/admin$", path) else path


ROUTERS = {
    "starlette": STARLETTE,
    "raw_path": by_path(
        lambda scope: "/".join(unquote(part) for part in scope["raw_path"].decode().split("/"))
    ),
    "raw_path_undecoded": by_path(lambda scope: scope["raw_path"].decode()),
    "url": by_path(lambda scope: Request(scope).url.path),
    "urlparse": by_path(lambda scope: urlparse(scope["path"]).path),
    "twice": by_path(lambda scope: unquote(scope["path"])),
    "normalized": by_path(
        lambda scope: (
            "/" + posixpath.normpath(unquote(scope["path"]).replace("\\", "/").strip("\0\r\n")).lstrip("/")
        )
    ),
    "dollar": by_path(lambda scope: dollar(scope["path"])),
    "parameters": by_path(lambda scope: posixpath.normpath(re.sub(r";[^/]*", "", scope["path"]))),
    "until_nul": by_path(lambda scope: scope["path"].split("\0")[0]),
    "stripped": by_path(lambda scope: re.sub(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+", "", scope["path"])),
}

ODD = [
    *(f"%{byte:02X}" for byte in (*range(0x20), 0x7F)),
    *("%c2%85", "%e2%80%a8", "%e2%80%a9", "%c2%80", "%ff", "%c0%ae", "%c0%af", "%ed%a0%80"),
    *("/", "//", "/.", "/./", "/..", "/../", "/x/..", "/x/../", "/../admin", "/../admin/x", "..", "."),
    *("%2e", "%2e%2e", "%2E%2E/", "/%2e%2e/", "%252e%252e/", "/%252e%252e/admin", "..;/", "/..;/admin", ";/"),
    *("%2f", "%2F", "%252f", "%252F", "%2f%2f", "/%2f", "/..%2fadmin", "/..%252fadmin", "%5c", "%5C", "\\"),
    *("/%5c..%5cadmin", "/..\\admin", "%255c", "/%255c..%255cadmin"),
    *(
        ";",
        ";x",
        ";x=1",
        "%3b",
        "%3bx",
        "%253bx",
        "?",
        "?x",
        "%3f",
        "%3Fx",
        "%253fx",
        "#",
        "#x",
        "%23",
        "%23x",
    ),
    *("%61", "%2561", "%25", "%2525", "%", "%%", "%zz", "%u0061", "%25%36%31"),
]
BASES = [
    "/admin",
    "/admin/",
    "/admin/users",
    "/static",
    "/static/x",
    "/",
    "/%61dmin",
    "/%2561dmin",
    "/a%64min",
]


def spellings() -> Iterator[str]:
    for base in BASES:
        yield base
        for odd in ODD:
            for at in range(1 if odd[0] != "/" else 0, len(base) + 1):
                yield base[:at] + odd + base[at:]


async def check(router: str, raw: str) -> None:
    app = BearerAuthMiddleware(ROUTERS[router], Reader(), **RULES)  # type: ignore[arg-type]
    status, body = await answer(app, scope_of(raw))
    assert (router, raw, status == 200 and body == "admin") == (router, raw, False)
    status, body = await answer(app, scope_of(raw), token=False)
    assert (router, raw, status == 200 and body != "static") == (router, raw, False)


@pytest.mark.parametrize("router", ROUTERS)
async def test_no_spelling_of_a_path_evades_a_rule(router: str) -> None:
    for raw in spellings():
        await check(router, raw)


@pytest.mark.parametrize("router", ROUTERS)
async def test_no_combination_of_two_spellings_evades_a_rule(router: str) -> None:
    found: list[str] = []

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.sampled_from([*ODD, *BASES, "admin", "static", "/"]), min_size=1, max_size=5))
    def collect(parts: list[str]) -> None:
        found.append("/" + "".join(parts).lstrip("/"))

    collect()
    for raw in found:
        await check(router, raw)


async def test_websockets_are_checked_alike() -> None:
    app = BearerAuthMiddleware(STARLETTE, Reader(), **RULES)  # type: ignore[arg-type]
    for raw in spellings():
        status, _ = await answer(app, scope_of(raw, "websocket"))
        assert (raw, status) != (raw, 101)
    for raw in ("/admin%0A", "/admin%00", "/x/../admin", "//admin", "/admin%2f", "/x%2Fy", "/admin%3Fx"):
        assert (raw, await answer(app, scope_of(raw, "websocket"))) == (
            raw,
            (400, "the path can be read in more than one way"),
        )


@pytest.mark.parametrize(
    "raw",
    [
        "/admin%0A",
        "/other%0a",
        "/other%0d",
        "/other%09x",
        "/other%7f",
        "/other%c2%85",
        "/other%e2%80%a8x",
        "/a%2fb",
        "/a%252fb/../c",
        "/a//b",
        "//a",
        "/a/./b",
        "/a/..",
        "/a/%2e%2e",
        "/a/..;x/b",
        "/a%5cb",
        "/a%00",
        "/a%ff",
        "/a%c0%ae",
        "/%252e%252e/a",
        "/admin%3Fx",
        "/admin%23x",
        "/admin;x",
        "/%2561dmin",
        "/static/%252e%252e/admin",
        "http://shop.test/a",
        "*",
    ],
)
async def test_ambiguous_path_is_answered_400(raw: str) -> None:
    app = BearerAuthMiddleware(STARLETTE, Reader(), **RULES)  # type: ignore[arg-type]
    assert (await answer(app, scope_of(raw)))[0] == 400


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("/static/a%20b.css", (200, "static")),
        ("/static/what%3F", (200, "static")),
        ("/static/c%23;v=1", (200, "static")),
        ("/static/100%25", (200, "static")),
        ("/static/caf%C3%A9", (200, "static")),
        ("/static/%F0%9F%91%A8%E2%80%8D%F0%9F%91%A9", (200, "static")),
        ("/static/...", (200, "static")),
        ("/static/.well-known", (200, "static")),
        ("/static/a..b/", (200, "static")),
        ("/other/a%3Ab@c", (200, "other")),
        ("/other;v=1/x", (200, "other")),
        ("/%6Fther", (200, "other")),
        ("/admin", (403, "INSUFFICIENT_SCOPE")),
        ("/%61dmin", (403, "INSUFFICIENT_SCOPE")),
        ("/admin/what%3F", (403, "INSUFFICIENT_SCOPE")),
    ],
)
async def test_unusual_paths_with_one_meaning_are_served(raw: str, expected: tuple[int, str]) -> None:
    app = BearerAuthMiddleware(STARLETTE, Reader(), **RULES)  # type: ignore[arg-type]
    assert await answer(app, scope_of(raw)) == expected


@pytest.mark.parametrize(
    ("path", "raw_path", "root", "expected"),
    [
        ("/a", b"/a", "", {"/a"}),
        ("/a", b"/%61", "", {"/a"}),
        ("/a", None, "", {"/a"}),
        ("/a", b"/a?x=1", "", {"/a"}),
        ("/a", b"/b", "", set()),
        ("/a", b"", "", set()),
        ("/shop/a", b"/shop/a", "/shop", {"/a"}),
        ("/shop/a", b"/a", "/shop", {"/a"}),
        ("/a", b"/shop/a", "/shop", {"/a"}),
        ("/a", b"/a", "/shop", {"/a"}),
        ("/shop", b"/shop", "/shop", {"/"}),
        ("/shopping", b"/shopping", "/shop", {"/shopping"}),
        ("/shop/shop/a", b"/shop/shop/a", "/shop", {"/shop/a"}),
        ("/a", b"/a", "/", {"/a"}),
        ("/shop/a", b"/shop/a", "/shop/", set()),
        ("/caf\xe9", b"/caf%C3%A9", "", {"/caf\xe9"}),
        ("/caf\ufffd", b"/caf%E9", "", set()),
        ("/caf\ufffd", None, "", set()),
        ("/\udcff", None, "", set()),
        ("/what?", b"/what%3F", "", {"/what?", "/what"}),
        ("/100%", b"/100%25", "", {"/100%"}),
        ("/%41", b"/%2541", "", {"/%41", "/A"}),
    ],
)
def test_path_and_raw_path_must_agree(
    path: str, raw_path: bytes | None, root: str, expected: set[str]
) -> None:
    assert readings({"path": path, "raw_path": raw_path, "root_path": root}) == expected


def test_usual_paths_are_read_as_all_others() -> None:
    usual = ["/", "/a", "/a/b-c/D_9", "/a/", "//a", "/a.b", "/a\n", "/\xe9", "a", ""]
    for raw in (*usual, *spellings()):
        for sent in (raw.encode(), b"/a", None):
            scope = {"path": unquote(raw), "raw_path": sent}
            # The root `/` is no part of a path, and it keeps the shortcut for usual paths from being taken.
            assert readings({**scope, "root_path": ""}) == readings({**scope, "root_path": "/"})


async def test_rules_apply_below_a_root_path() -> None:
    app = BearerAuthMiddleware(STARLETTE, Reader(), **RULES)  # type: ignore[arg-type]
    assert await answer(app, scope_of("/static/x", root="/shop")) == (200, "static")
    assert (await answer(app, scope_of("/admin", root="/shop")))[0] == 403
    assert (await answer(app, scope_of("/admin%0A", root="/shop")))[0] == 400


async def test_lower_case_method_does_not_evade_a_rule() -> None:
    rules = {"scopes": {"POST /orders": ["admin"]}, "default_scopes": ["read"]}
    app = BearerAuthMiddleware(STARLETTE, Reader(), **rules)  # type: ignore[arg-type]
    assert (await answer(app, scope_of("/orders")))[0] == 200
    assert (await answer(app, scope_of("/orders", method="POST")))[0] == 403
    for method in ("post", "Post"):
        assert (await answer(app, scope_of("/orders", method=method)))[0] == 400


@pytest.mark.parametrize("kind", ["webtransport", "http2", "mqtt", "HTTP", "", None])
async def test_a_connection_of_unknown_type_is_refused(kind: str | None) -> None:
    reached: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    middleware = BearerAuthMiddleware(app, Reader(), **RULES)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="can't be checked"):
        await middleware({**scope_of("/static/x"), "type": kind}, None, None)  # type: ignore[arg-type]
    assert reached == []


@pytest.mark.parametrize(
    "path",
    [
        "/a//b",
        "/a/../b",
        "/./a",
        "/a%2Fb",
        "/caf%C3%A9",
        "/users/{id}",
        "/a;x",
        "/a?b",
        "/a#b",
        "/a\\b",
        "//*",
    ],
)
def test_a_rule_that_fits_no_request_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="matches no request"):
        BearerAuthMiddleware(STARLETTE, Reader(), scopes={path: ["admin"]})  # type: ignore[arg-type]
