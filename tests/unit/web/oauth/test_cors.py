"""Calls from web pages: which origins may call, and which may read the response."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec import structs

from tests.contract.builders import a_client, an_end
from tests.unit.web.oauth.serving import Site, site
from token_service.core.clients.client import AuthMethod, ClientState

APP, SHOP, STRANGER = "https://app.example", "https://shop.example", "https://evil.example"
WEB = a_client("web", allowed_origins=(APP, "https://app2.example"), grant_types=("refresh_token",))
OTHER = a_client("other", allowed_origins=(SHOP,), grant_types=("refresh_token",))
PRIVATE = a_client(
    "private", allowed_origins=(APP,), token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC
)


async def preflight(served: Site, origin: str) -> Mapping[str, str]:
    answer = await served.http.options(
        "/token", headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["vary"] == "Origin"
    return answer.headers


async def is_allowed(served: Site, origin: str) -> bool:
    return (await preflight(served, origin)).get("access-control-allow-origin") == origin


@pytest.mark.parametrize("origin", [APP, "https://app2.example", SHOP])
async def test_preflight_of_the_origin_of_any_client_is_allowed(origin: str) -> None:
    async with site(WEB, OTHER) as served:
        headers = await preflight(served, origin)
    allowed = {name: value for name, value in headers.items() if name.startswith("access-control-")}
    assert allowed == {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "Authorization, Content-Type, DPoP",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize(
    "origin",
    [STRANGER, "null", "*", "", f"{APP}.evil.example", f"{APP}:443", "http://app.example", APP.upper()],
)
async def test_preflight_of_another_origin_is_not_allowed(origin: str) -> None:
    async with site(WEB, OTHER) as served:
        assert not [name for name in await preflight(served, origin) if name.startswith("access-control-")]


async def test_pages_may_call_revocation_but_not_introspection() -> None:
    headers = {"Origin": APP, "Access-Control-Request-Method": "POST"}
    async with site(WEB) as served:
        assert (await served.http.options("/revoke", headers=headers)).headers[
            "access-control-allow-origin"
        ] == APP
        answer = await served.http.post(
            "/revoke", data={"client_id": "web", "token": "x"}, headers={"Origin": APP}
        )
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, APP)
        answer = await served.http.options("/introspect", headers=headers)
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (405, None)


async def test_options_without_a_preflight_allows_nothing() -> None:
    async with site(WEB) as served:
        answer = await served.http.options("/token", headers={"Origin": APP})
    assert "access-control-allow-origin" not in answer.headers


async def test_preflight_follows_the_registry() -> None:
    async with site(WEB, OTHER) as served:
        second = structs.replace(OTHER, client_id="second", allowed_origins=(SHOP, STRANGER))
        await served.register(second)
        assert [await is_allowed(served, each) for each in (APP, SHOP, STRANGER)] == [True, True, True]
        await served.register(structs.replace(WEB, allowed_origins=("https://app2.example",)))
        await served.register(structs.replace(second, allowed_origins=()))
        assert [await is_allowed(served, each) for each in (APP, SHOP, STRANGER)] == [False, True, False]
        await served.node.log.append([an_end("other", ClientState.DISABLED)])
        await served.node.clients.refresh()
        assert not await is_allowed(served, SHOP)
        await served.register(structs.replace(OTHER, state=ClientState.ACTIVE))
        assert await is_allowed(served, SHOP)
        await served.node.clients.start_over()  # after the database was restored
        assert [await is_allowed(served, each) for each in (APP, SHOP, STRANGER)] == [False, True, False]
        await served.node.log.append([an_end("other", ClientState.DELETED)])
        await served.node.clients.refresh()
        assert not await is_allowed(served, SHOP)


async def asked(
    served: Site, origin: str | None, client_id: str, **data: str
) -> tuple[int, Mapping[str, str]]:
    headers = {} if origin is None else {"Origin": origin}
    answer = await served.http.post("/token", data={"client_id": client_id, **data}, headers=headers)
    return answer.status_code, answer.headers


@pytest.mark.parametrize(
    ("origin", "client_id", "allowed"),
    [
        (APP, "web", True),
        ("https://app2.example", "web", True),
        (APP, "other", False),
        (SHOP, "web", False),
        (SHOP, "other", True),
        (STRANGER, "web", False),
        ("null", "web", False),
        (None, "web", False),
        (APP, "unknown", False),
    ],
)
async def test_response_is_readable_for_the_origins_of_the_client_it_is_for(
    origin: str | None, client_id: str, *, allowed: bool
) -> None:
    async with site(WEB, OTHER) as served:
        issued = await served.node.issue(client_id="web")
        refresh = {"grant_type": "refresh_token", "refresh_token": issued.refresh_token}
        status, headers = await asked(served, origin, client_id, **refresh)
    assert (status == 200) == (client_id == "web")
    assert headers.get("access-control-allow-origin") == (origin if allowed else None)
    assert headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in headers
    assert headers["cache-control"] == "no-store"


async def test_refusal_is_readable_too() -> None:
    async with site(WEB, PRIVATE) as served:
        status, headers = await asked(served, APP, "web", grant_type="unknown")
        assert (status, headers["access-control-allow-origin"]) == (400, APP)
        assert headers["access-control-expose-headers"] == "DPoP-Nonce, Retry-After, WWW-Authenticate"
        status, headers = await asked(served, APP, "private", client_secret="wrong")
        assert (status, headers["access-control-allow-origin"]) == (401, APP)
        answer = await served.http.post(
            "/token", auth=("private", "wrong"), data={"a": "b"}, headers={"Origin": APP}
        )
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, APP)


async def test_refusal_of_a_disabled_client_is_not_readable() -> None:
    async with site(WEB) as served:
        await served.node.log.append([an_end("web", ClientState.DISABLED)])
        await served.node.clients.refresh()
        status, headers = await asked(served, APP, "web", grant_type="refresh_token")
    assert status == 401
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ],
)
async def test_public_documents_are_readable_for_every_origin(path: str) -> None:
    async with site(WEB) as served:
        answer = await served.http.get(path, headers={"Origin": STRANGER})
        assert answer.headers["access-control-allow-origin"] == "*"
        if "etag" in answer.headers:
            again = await served.http.get(
                path, headers={"Origin": APP, "If-None-Match": answer.headers["etag"]}
            )
            assert (again.status_code, again.headers["access-control-allow-origin"]) == (304, "*")
