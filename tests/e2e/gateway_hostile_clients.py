"""Clients that try to deceive a proxy or the gateway. Part of the contract of every proxy."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.e2e.gateway_world import World, bearer
from tests.support.raw_http2 import Answer
from token_service.gateway.identity import NAMES as IDENTITY

ODD_PATHS = [
    "//orders/1",
    "/./orders/1",
    "/public/../orders/1",
    "/public/%2e%2e/orders/1",
    "/public/%2E./orders/1",
    "/public/..%2forders/1",
    "/public/%2e%2e%2forders/1",
    "/public//../orders/1",
    "/public/..;/orders/1",
    "/public/..;x=1/orders/1",
    "/public/%252e%252e/orders/1",
    "/public\\..\\orders/1",
    "/public/..%5corders/1",
    "/public%2f..%2forders/1",
    "/orders%2f1",
    "/orders;x/1",
    "/%6frders/1",
    "/ORDERS/1",
    "/public/%00/../../orders/1",
    "/public/%0a/../../orders/1",
    "/orders/1#/public/",
    "http://localhost/orders/1",
    "http://localhost/public/../orders/1",
    "http://other.example//orders/1",
    "*",
    "/orders/" + "a" * 20_000,
]
VERY_LONG_PATHS = ["/public/" + "a/" * 60_000, "/orders/" + "a" * 120_000]


class HostileClients:
    """The tests. The fixture `world` of the module has the proxy."""

    def test_identity_headers_of_clients_are_replaced_or_removed(self, world: World) -> None:
        spoofed = [
            ("X-Token-Subject", "root"),
            ("x-TOKEN-subject", "root"),
            ("X-Token-Client-Id", "root"),
            ("X-Token-Scope", "root"),
            ("X-Token-Session-Id", "root"),
            ("x-token-session-id", "root"),
            ("X-TOKEN-CLAIMS", "root"),
        ]
        assert world.ask("/orders/1", world.issue(), headers=spoofed).status == 200
        seen = world.upstream.seen[-1]
        assert sorted((name, value) for name, value in seen.headers if name in IDENTITY and value) == [
            ("x-token-client-id", "web"),
            ("x-token-scope", "orders:read"),
            ("x-token-subject", "alice"),
        ]
        assert world.ask("/public/1", headers=spoofed).status == 200
        seen = world.upstream.seen[-1]
        assert [(name, value) for name, value in seen.headers if name in IDENTITY and value] == []
        for name in ("X_Token_Subject", "X-Token_Subject", "x_token-SUBJECT"):
            for path in ("/orders/1", "/public/1"):
                world.ask(path, world.issue(), headers=[(name, "root")])
        assert not [seen for seen in world.upstream.seen if "root" in dict(seen.headers).values()]

    def test_client_cannot_declare_an_identity_header_as_one_of_the_connection(self, world: World) -> None:
        """Proxies remove the headers that `Connection` names (RFC 9110, section 7.6.1)."""
        headers = [("Connection", "close, X-Token-Subject, X-Token-Scope")]
        before = world.reached()
        status = world.ask("/orders/1", world.issue(), headers=headers).status
        assert status in {200, 400}
        assert world.reached() - before == (status == 200)
        if status == 200:
            seen = world.upstream.seen[-1]
            assert (seen.values("x-token-subject"), seen.values("x-token-scope")) == (
                ["alice"],
                ["orders:read"],
            )

    def test_descriptions_of_the_request_by_clients_are_not_believed(self, world: World) -> None:
        before = world.reached()
        headers = [
            ("X-Forwarded-Uri", "/public/1"),
            ("X-Forwarded-Method", "OPTIONS"),
            ("X-Original-URL", "/public/1"),
            ("X-Forwarded-Host", "other.example"),
            ("Origin", "https://app.example"),
            ("Access-Control-Request-Method", "GET"),
            ("x-token-status", "200"),
            ("x-envoy-original-path", "/public/1"),
        ]
        for path in ("/orders/1", "/browser/1", "/orders/1?route=public", "/orders/1?public=true"):
            assert world.ask(path, headers=headers).status == 401
        assert world.reached() == before

    @pytest.mark.parametrize("path", ODD_PATHS, ids=lambda path: path[:40])
    def test_odd_path_reaches_no_application_without_the_token_of_the_route(
        self, world: World, path: str
    ) -> None:
        before = world.reached()
        weak = world.issue(scopes=["invoices:read"])
        statuses = {world.ask(path, token).status for token in (None, weak)}
        if statuses == {200}:  # the proxy changed the path before the check
            assert {seen.target for seen in world.upstream.seen[before - world.reached() :]} == {
                "/public/orders/1"
            }
            return
        assert statuses <= {400, 401, 403, 404, 414, 421, 431}
        assert world.reached() == before, world.upstream.seen[-1]

    @pytest.mark.parametrize("path", VERY_LONG_PATHS, ids=["public", "orders"])
    def test_very_long_path_reaches_no_application(self, world: World, path: str) -> None:
        before = world.reached()
        with suppress(OSError):  # the proxy may close the connection before the end
            assert 400 <= world.ask(path).status < 500
        assert world.reached() == before

    async def test_client_with_http2_gets_the_same_answers(self, world: World) -> None:
        token = world.issue()
        before = world.reached()
        for path in ("orders/1", "?/orders/1", *(path for path in ODD_PATHS if path[0] == "/")):
            if path != "/public//../orders/1":
                # A connection for each path: some paths are errors of the connection.
                async with world.http2() as client:
                    assert _is_refused(await client.over(await client.call(path, b""))), path
        assert world.reached() == before, world.upstream.seen[-1]
        async with world.http2() as client:
            spoofed = [
                ("x-token-subject", "root"),
                ("x-token-subject", "root"),
                ("x-token-session-id", "root"),
            ]
            headers = [*bearer(token), *spoofed]
            stream = client.begin("/orders/1", end=True, headers=headers)
            client.flush()
            assert (await client.over(stream)).headers[":status"] == "200"
            seen = world.upstream.seen[-1]
            assert seen.values("x-token-subject") == ["alice"]
            assert "root" not in dict(seen.headers).values()
            stream = client.begin("/orders/1", end=True, headers=bearer(token) + bearer(token))
            client.flush()
            assert _is_refused(await client.over(stream))

    def test_no_upgrade_but_that_to_a_web_socket_reaches_an_application(self, world: World) -> None:
        """An upgrade to h2c would give the client a connection whose further requests are not checked."""
        token = world.issue()
        for upgrades in (
            ["h2c"],
            ["H2C"],
            ["websocket, h2c"],
            ["h2c, websocket"],
            ["tcp"],
            ["websocket", "h2c"],
        ):
            headers = [
                ("Connection", "Upgrade, HTTP2-Settings"),
                *(("Upgrade", upgrade) for upgrade in upgrades),
                ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
                ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ]
            for path in ("/orders/1", "/events/1", "/public/1"):
                world.ask(path, token, headers=headers)
        assert {value.lower() for seen in world.upstream.seen for value in seen.values("upgrade")} <= {
            "websocket"
        }

    @pytest.mark.parametrize("method", ["CONNECT", "TRACE", "get", "FOO", "OPTIONS", "HEAD"])
    def test_every_method_needs_a_token(self, world: World, method: str) -> None:
        before = world.reached()
        targets = ["/orders/1"] if method != "CONNECT" else ["/orders/1", "localhost:443", "127.0.0.1:80"]
        for target in targets:
            assert 400 <= world.ask(target, method=method).status < 500
        assert world.reached() == before


def _is_refused(answer: Answer) -> bool:
    """Return whether a call was refused: by its status, by that of gRPC (Envoy answers calls so), or by no response."""
    return not answer.headers or answer.headers[":status"][0] == "4" or answer.status not in {None, 0}
