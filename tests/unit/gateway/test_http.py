from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.unit.gateway.conftest import MakeGateway, bearer
from token_service.gateway.http import HttpApp
from token_service.gateway.identity import NAMES
from token_service.gateway.loading import Parts
from token_service.gateway.metrics import Metrics

ROUTES = """
[routes.orders]
scopes = ["read"]
[routes.open]
public = true
[routes.browser]
cors_preflight = true
"""


class Stub:
    """What `HttpApp` reads."""

    def __init__(self, parts: Parts) -> None:
        self.auth = parts.auth
        self.metadata = parts.metadata
        self.ready = True

    def readiness(self) -> tuple[bool, dict[str, object]]:
        return self.ready, {"ready": self.ready}


def client(parts: Parts) -> httpx.AsyncClient:
    app: Any = HttpApp(Stub(parts), Metrics())
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", trust_env=False)


def forwarded(authorization: str | None = None, **changes: str) -> dict[str, str]:
    """Return the headers of a proxy."""
    headers = {
        "x-forwarded-method": "GET",
        "x-forwarded-uri": "/orders?a=1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "api.example",
    }
    if authorization is not None:
        headers["authorization"] = authorization
    return headers | {name.replace("_", "-"): value for name, value in changes.items()}


async def test_identity_headers_are_always_present(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway(ROUTES) as parts, client(parts) as http:
        answer = await http.get("/auth/orders", headers=forwarded(bearer(service, sub="alice", sid=...)))
        assert answer.status_code == 200
        assert {name: answer.headers[name] for name in NAMES} == {
            "x-token-subject": "alice",
            "x-token-client-id": "web",
            "x-token-scope": "read write",
            "x-token-session-id": "",
            "x-token-claims": "",
        }
        spoofed = forwarded(x_token_subject="admin")
        answer = await http.get("/auth/open", headers=spoofed)
        assert answer.status_code == 200
        assert [answer.headers[name] for name in NAMES] == [""] * 5


async def test_refusals_have_status_and_challenge(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway(ROUTES) as parts, client(parts) as http:
        for path, headers, status in [
            ("/auth", forwarded(bearer(service)), 200),
            ("/auth", forwarded(), 401),
            ("/auth/orders", forwarded(bearer(service, scope="write")), 403),
            ("/auth/orders", forwarded(bearer(service), x_forwarded_uri="/a/../b"), 400),
            ("/auth/nowhere", forwarded(bearer(service)), 403),
            ("/auth/", forwarded(bearer(service)), 403),
            ("/auth/orders/x", forwarded(bearer(service)), 403),
            ("/auth/orders?public=true", forwarded(), 401),
            ("/auth?public=true", forwarded(), 401),
        ]:
            answer = await http.get(path, headers=headers)
            assert (path, answer.status_code) == (path, status)
            if status != 200:
                assert answer.headers["x-token-status"] == str(status)
                assert not any(name in answer.headers for name in NAMES)
            assert ("www-authenticate" in answer.headers) == (
                status == 401 or "write" in answer.text or answer.text.startswith("the token lacks")
            )
            assert answer.headers["cache-control"] == "no-store"


async def test_statuses_for_nginx(service: FakeTokenService, gateway: MakeGateway) -> None:
    rest = "[responses]\nhttp_unavailable = 403\nhttp_bad_request = 403"
    async with gateway(rest, ready=False) as parts, client(parts) as http:
        await parts.validator.close()
        answer = await http.get("/auth", headers=forwarded(bearer(service)))
        assert (answer.status_code, answer.headers["x-token-status"]) == (403, "503")
        assert answer.headers["retry-after"] == "1"
        answer = await http.get("/auth", headers=forwarded(x_forwarded_uri="//a"))
        assert (answer.status_code, answer.headers["x-token-status"]) == (403, "400")


async def test_unavailable_is_503_by_default(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway(ready=False) as parts, client(parts) as http:
        await parts.validator.close()
        assert (await http.get("/auth", headers=forwarded(bearer(service)))).status_code == 503


@pytest.mark.parametrize("missing", ["x-forwarded-method", "x-forwarded-uri"])
async def test_request_that_the_proxy_does_not_describe_is_refused(
    service: FakeTokenService, gateway: MakeGateway, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    async with gateway(ROUTES) as parts, client(parts) as http:
        headers = forwarded(bearer(service))
        del headers[missing]
        for path in ("/auth", "/auth/open", "/auth"):
            assert (await http.get(path, headers=headers)).status_code == 403
        assert len([line for line in caplog.messages if missing in line]) == 1


async def test_requirements_in_headers_of_the_proxy(service: FakeTokenService, gateway: MakeGateway) -> None:
    rest = '[http.requirement_headers]\nscopes = "x-require-scopes"\naudience = "x-require-audience"'
    async with gateway(rest) as parts, client(parts) as http:
        token = bearer(service, scope="read", aud=["shop"])
        for headers, status in [
            ({"x_require_scopes": "read", "x_require_audience": "shop"}, 200),
            ({"x_require_scopes": "admin", "x_require_audience": "shop"}, 403),
            ({"x_require_scopes": "read", "x_require_audience": "other"}, 401),
            ({"x_require_scopes": "read"}, 403),
            ({}, 403),
        ]:
            answer = await http.get("/auth", headers=forwarded(token, **headers))
            assert (headers, answer.status_code) == (headers, status)


async def test_headers_are_no_requirements_by_default(
    service: FakeTokenService, gateway: MakeGateway
) -> None:
    async with gateway(ROUTES) as parts, client(parts) as http:
        for name in ("route", "x-route", "public", "x-public", "x-token-route"):
            answer = await http.get("/auth", headers={**forwarded(), name: "open"})
            assert answer.status_code == 401


async def test_header_sent_twice_is_no_credential(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway() as parts, client(parts) as http:
        token = bearer(service)
        headers = [*forwarded().items(), ("authorization", token), ("authorization", token)]
        assert (await http.get("/auth", headers=headers)).status_code == 401
        headers = [*forwarded(token).items(), ("x-forwarded-uri", "/other")]
        assert (await http.get("/auth", headers=headers)).status_code == 403


async def test_preflight(gateway: MakeGateway) -> None:
    async with gateway(ROUTES) as parts, client(parts) as http:
        headers = forwarded(
            x_forwarded_method="OPTIONS", origin="https://a.example", access_control_request_method="PUT"
        )
        assert (await http.get("/auth/browser", headers=headers)).status_code == 200
        assert (await http.get("/auth/orders", headers=headers)).status_code == 401


async def test_metadata_of_the_resource(service: FakeTokenService, gateway: MakeGateway) -> None:
    rest = """
        [proofs]
        origin = "https://api.example"
        [resource]
        resource = "https://api.example/v1"
        scopes_supported = ["read"]
        name = "Orders"
        documentation = "https://api.example/docs"
        """
    async with gateway(rest) as parts, client(parts) as http:
        answer = await http.get("/.well-known/oauth-protected-resource/v1")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert json.loads(answer.content) == {
            "resource": "https://api.example/v1",
            "authorization_servers": [service.issuer],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["read"],
            "resource_name": "Orders",
            "resource_documentation": "https://api.example/docs",
            "dpop_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        }
        assert (await http.get("/.well-known/oauth-protected-resource")).status_code == 404
        refused = await http.get("/auth", headers=forwarded())
        assert (
            'resource_metadata="https://api.example/.well-known/oauth-protected-resource/v1"'
            in refused.headers["www-authenticate"]
        )


async def test_health_and_metrics(service: FakeTokenService, gateway: MakeGateway) -> None:
    async with gateway(ROUTES) as parts:
        stub, metrics = Stub(parts), Metrics()
        app: Any = HttpApp(stub, metrics)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://gateway", trust_env=False
        ) as http:
            assert (await http.get("/livez")).status_code == 200
            assert (await http.get("/readyz")).json() == {"ready": True}
            stub.ready = False
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/livez")).status_code == 200
            assert (await http.post("/readyz")).status_code == 405
            assert (await http.get("/nothing")).status_code == 404
            head = await http.head("/livez")
            assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "2")
            await http.get("/auth/orders", headers=forwarded(bearer(service)))
            await http.get("/auth/orders", headers=forwarded(bearer(service, scope="a")))
            await http.get("/auth/anything", headers=forwarded(bearer(service)))
            page = (await http.get("/metrics")).text
            for outcome, reason in (
                ("allowed", "valid"),
                ("refused", "insufficient_scope"),
                ("refused", "misconfigured"),
            ):
                line = f'token_gateway_checks_total{{edge="http",outcome="{outcome}",reason="{reason}"}} 1.0'
                assert line in page.splitlines()
            assert 'token_gateway_check_seconds_count{edge="http"} 3.0' in page
            assert "anything" not in page
