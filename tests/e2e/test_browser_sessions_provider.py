"""Browser sessions at a foreign provider: oidc-provider (npm), which uses each refresh token once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tests.support import node as nodejs
from tests.support.deadline import eventually
from tests.support.managed import ManagedProcess
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

RENEWALS = 3


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the subject of the session."""
    assert scope["type"] == "http"
    session = session_of(scope)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send(
        {"type": "http.response.body", "body": session.subject.encode() if session is not None else b"none"}
    )


class Site:
    """The application, served at a URL that the provider can reach."""

    def __init__(self, url: str, store: MemorySessionStore) -> None:
        self.url = url
        self.store = store
        self.visitors: list[Visitor] = []

    @property
    def versions(self) -> list[int]:
        """One more than the renewals of each session."""
        return [session.version for session in self.store._sessions.values()]


class Visitor:
    """A browser without scripts. It sends `Secure` cookies to localhost, as browsers do."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.cookies: dict[str, str] = {}
        self.client = httpx.AsyncClient(trust_env=False, timeout=60)
        site.visitors.append(self)

    async def log_in(self, user: str) -> None:
        answer = await self.app("GET", "/auth/login")
        answer = await self.client.get(answer.headers["location"])
        for form in ({"prompt": "login", "login": user, "password": "any"}, {"prompt": "consent"}):
            answer = await self.at_provider("POST", answer, form)
            answer = await self.at_provider("GET", answer)
        callback = answer.headers["location"].removeprefix(self.site.url)
        answer = await self.app("GET", callback)
        assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text

    async def at_provider(
        self, method: str, answer: httpx.Response, form: dict[str, str] | None = None
    ) -> httpx.Response:
        return await self.client.request(method, answer.url.join(answer.headers["location"]), data=form)

    async def app(self, method: str, path: str, **headers: str) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            answer = await client.request(
                method, f"{self.site.url}{path}", headers={"Cookie": cookie, **headers}
            )
        for header in answer.headers.get_list("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            self.cookies = {other: kept for other, kept in self.cookies.items() if other != name}
            if value:
                self.cookies[name] = value
        return answer

    async def user(self) -> str:
        answer = await self.app("GET", "/")
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    port, provider_port = free_port(), free_port()
    url, issuer = f"http://localhost:{port}", f"http://127.0.0.1:{provider_port}"
    provider = nodejs.start("bff_provider.mjs", str(provider_port), url, log=tmp_path / "provider.log")
    config = BffConfig(
        public_url=url,
        provider=Provider(
            issuer=issuer,
            client=ClientSecretBasic("shop", Secret(b"secret-of-the-application")),
            timeout=20.0,
        ),
        keys={1: Secret(b"k" * 32)},
        active_key=1,
        logout=ProviderLogout.PROVE,
    )
    store = MemorySessionStore()
    bff = BackendForFrontend(application, config, store)
    server = uvicorn.Server(
        uvicorn.Config(bff, host="localhost", port=port, log_level="warning", lifespan="off", ws="none")
    )
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started and _answers(provider, issuer))
        site = Site(url, store)
        yield site
        for visitor in site.visitors:
            await visitor.client.aclose()
    finally:
        server.should_exit = True
        await serving
        await bff.aclose()
        provider.kill()
        release_port(port)
        release_port(provider_port)


def _answers(provider: ManagedProcess, issuer: str) -> bool:
    assert provider.running, provider.log_tail()
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False, timeout=60).is_success
    except httpx.TransportError:
        return False


async def test_tabs_renew_rotating_tokens_without_a_logout(site: Site) -> None:
    visitor = Visitor(site)
    await visitor.log_in("alice")
    while site.versions[0] <= RENEWALS:
        assert set(await asyncio.gather(*(visitor.user() for _ in range(10)))) == {"alice"}


async def test_logout_ends_both_sessions_and_comes_back(site: Site) -> None:
    visitor = Visitor(site)
    await visitor.log_in("alice")
    answer = await visitor.app("POST", "/auth/logout", Origin=site.url)
    assert answer.status_code == 303
    asked = await visitor.client.get(answer.headers["location"])
    assert asked.status_code == 200
    found = re.search(r'action="([^"]+)".*name="xsrf" value="([^"]+)"', asked.text, re.DOTALL)
    assert found is not None, asked.text
    done = await visitor.client.post(found[1], data={"xsrf": found[2], "logout": "yes"})
    assert done.headers["location"] == f"{site.url}/"
    assert await visitor.user() == "none"
    assert site.store._sessions == {}


async def test_logout_at_the_provider_ends_the_session_here(site: Site) -> None:
    visitor, other = Visitor(site), Visitor(site)
    await visitor.log_in("alice")
    await other.log_in("bob")
    issuer = (await visitor.app("GET", "/auth/login")).headers["location"].partition("/auth?")[0]
    asked = await visitor.client.get(f"{issuer}/session/end")
    found = re.search(r'action="([^"]+)".*name="xsrf" value="([^"]+)"', asked.text, re.DOTALL)
    assert found is not None, asked.text
    await visitor.client.post(found[1], data={"xsrf": found[2], "logout": "yes"})
    await eventually(lambda: len(site.store._sessions) == 1)
    assert [await visitor.user(), await other.user()] == ["none", "bob"]
