"""Browser sessions in a real browser, whose rules about cookies, redirects and Origin no test client has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.support.chromium import page_after
from tests.support.deadline import eventually
from tests.support.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider
from tests.support.ports import free_port, release_port
from token_service.bff import (
    BackendForFrontend,
    BffConfig,
    ClientSecretBasic,
    MemorySessionStore,
    Provider,
    ProviderLogout,
    RequestRules,
    SameSite,
    session_of,
)
from token_service.tokens.secret import Secret

LOGOUT = b"<form id=f method=post action=/auth/logout></form><script>f.submit()</script>"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Show the subject. The pages below /logout log out by a form as soon as they are shown."""
    assert scope["type"] == "http"
    session = session_of(scope)
    subject = session.subject if session is not None else "none"
    body = LOGOUT if scope["path"].startswith("/logout") else f"<p>subject: {subject}</p>".encode()
    headers = [(b"content-type", b"text/html")]
    if scope["path"] == "/logout/without-referrer":
        headers.append((b"referrer-policy", b"no-referrer"))  # the form's Origin is then `null`
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Site:
    def __init__(self, url: str, provider: FakeProvider, store: MemorySessionStore) -> None:
        self.url = url
        self.provider = provider
        self.store = store


@asynccontextmanager
async def site(same_site: SameSite) -> AsyncIterator[Site]:
    """Serve the application at localhost and the provider at 127.0.0.1, which is another site."""
    port = free_port()
    url = f"http://localhost:{port}"
    with FakeProvider(f"{url}/auth/callback", f"{url}/") as provider:
        provider.shows_page = True  # the way back is then a navigation that another site began
        config = BffConfig(
            public_url=url,
            provider=Provider(
                issuer=provider.issuer,
                client=ClientSecretBasic(CLIENT_ID, Secret(CLIENT_SECRET.encode())),
                timeout=20.0,
            ),
            keys={1: Secret(b"k" * 32)},
            active_key=1,
            logout=ProviderLogout.ASK,
            requests=RequestRules(same_site=same_site),
        )
        store = MemorySessionStore()
        bff = BackendForFrontend(application, config, store)
        settings = uvicorn.Config(
            bff, host="127.0.0.1", port=port, log_level="warning", lifespan="off", ws="none"
        )
        server = uvicorn.Server(settings)
        serving = asyncio.create_task(server.serve())
        try:
            await eventually(lambda: server.started)
            yield Site(url, provider, store)
        finally:
            server.should_exit = True
            await serving
            await bff.aclose()
            release_port(port)
        assert provider.complaints == []


@pytest.mark.parametrize("same_site", SameSite)
async def test_user_is_logged_in_on_the_page_after_the_login(same_site: SameSite, tmp_path: Path) -> None:
    async with site(same_site) as served:
        shown = await page_after(f"{served.url}/auth/login?return_to=/orders", tmp_path)
        assert "subject: alice" in shown


@pytest.mark.parametrize("page", ["/logout", "/logout/without-referrer"])
@pytest.mark.parametrize("same_site", SameSite)
async def test_form_of_the_application_logs_out(same_site: SameSite, page: str, tmp_path: Path) -> None:
    async with site(same_site) as served:
        shown = await page_after(f"{served.url}/auth/login?return_to={page}", tmp_path)
        assert "subject: none" in shown
        assert served.provider.requests["/end_session"] == 1
        assert served.store._sessions == {}
