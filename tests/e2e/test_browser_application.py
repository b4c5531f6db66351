"""The whole chain in Chromium: an application behind the backend-for-frontend, a node, and a login service."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.e2e.browser_node import BrowserNode
from tests.e2e.oauth import register
from tests.e2e.pages import assert_policy_kept
from tests.support.chromium import Page
from tests.support.deadline import eventually_sync
from tests.support.ports import free_port, release_port
from token_service.bff import (
    BackendForFrontend,
    BffConfig,
    ClientSecretBasic,
    MemorySessionStore,
    Provider,
    ProviderLogout,
    session_of,
)
from token_service.tokens.secret import Secret

PAGE = """<!doctype html><html lang="en"><title>Shop</title><h1>Shop</h1><p>user: {user}</p>
<form method="post" action="/auth/logout"><button>Log out</button></form></html>"""


async def shop(request: Request) -> HTMLResponse:
    """Show the user."""
    session = session_of(request.scope)
    if session is not None:
        await session.access_token()
    return HTMLResponse(PAGE.format(user="none" if session is None else session.subject))


@pytest.fixture(scope="module")
def site(node: BrowserNode) -> Iterator[str]:
    """The URL of the application, which is on another site than the node."""
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    client = register(
        node,
        "shop",
        "client_secret_basic",
        grant_types=["authorization_code", "refresh_token"],
        redirect_uris=[f"{url}/auth/callback"],
        post_logout_redirect_uris=[f"{url}/"],
        backchannel_logout_uri=f"{url}/auth/backchannel-logout",
        scopes=["openid", "read"],
        first_party=True,
    )
    provider = Provider(
        issuer=node.issuer,
        client=ClientSecretBasic(client.client_id, Secret(client.secret.encode())),
        scopes=["openid", "read"],
        timeout=20.0,
        tls=ssl.create_default_context(cafile=node.ca_file),
    )
    config = BffConfig(
        public_url=url,
        provider=provider,
        keys={1: Secret(b"k" * 32)},
        active_key=1,
        logout=ProviderLogout.PROVE,
    )
    application = Starlette(routes=[Route("/", shop)])
    bff = BackendForFrontend(application, config, MemorySessionStore())
    assert node.ca_file is not None
    directory: Path = node.ca_file.parent
    server = uvicorn.Server(
        uvicorn.Config(
            bff, host="127.0.0.1", port=port, log_level="warning", ws="none",
            ssl_certfile=directory / "cert.pem", ssl_keyfile=directory / "key.pem",
        )
    )  # fmt: skip
    serving = threading.Thread(target=server.run)
    serving.start()
    try:
        eventually_sync(lambda: server.started)
        yield url
    finally:
        server.should_exit = True
        serving.join(60)
        release_port(port)


def log_in(page: Page, site: str) -> None:
    """Log alice in."""
    page.goto(f"{site}/auth/login?return_to=/")
    page.fill("User", "alice")
    assert "user: alice" in page.press("Log in", until=f"^{site}/$").text


def test_browser_keeps_a_cookie_and_no_token(site: str, page: Page) -> None:
    assert "user: none" in page.goto(f"{site}/").text
    log_in(page, site)
    assert "user: alice" in page.goto(f"{site}/").text
    kept = [each for each in page.cookies() if each["domain"] == "127.0.0.1"]
    assert [each["name"] for each in kept] == ["__Host-session"]
    assert all(each["httpOnly"] and each["secure"] for each in kept)
    assert not any(prefix in each["value"] for each in page.cookies() for prefix in ("eyJ", "rt_", "st_"))
    assert_policy_kept(page)


def test_logout_of_the_application_is_a_logout_at_the_node(node: BrowserNode, site: str, page: Page) -> None:
    log_in(page, site)
    session = node.sessions("shop")[0]
    assert "user: none" in page.press("Log out", until=f"^{site}/$").text
    assert session not in node.sessions("shop")
    assert_policy_kept(page)


def test_revocation_at_the_node_logs_the_browser_out(node: BrowserNode, site: str, page: Page) -> None:
    log_in(page, site)
    node.revoke(node.sessions("shop")[0])
    eventually_sync(lambda: "user: none" in page.goto(f"{site}/").text)
