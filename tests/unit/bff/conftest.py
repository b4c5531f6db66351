"""An application behind a backend-for-frontend, and the provider that it logs in at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.browser import PUBLIC_URL, Browser
from tests.support.fake_provider import CLIENT_ID, CLIENT_SECRET, FakeProvider
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

KEY = Secret(b"k" * 32)


class VirtualClock:
    """Wall and monotonic clock in one, moved by a test."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += seconds


async def who(request: Request) -> JSONResponse:
    session = session_of(request.scope)
    assert request.state.session is session
    if session is None:
        return JSONResponse({"subject": None, "cookies": dict(request.cookies)})
    token = await session.access_token()
    return JSONResponse(
        {
            "subject": session.subject,
            "token_kind": token[:3],
            "cookies": dict(request.cookies),
        }
    )


def application() -> Starlette:
    return Starlette(routes=[Route("/{path:path}", who, methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"])])


class World:
    """One application, its store and its provider."""

    def __init__(self, provider: FakeProvider, clock: VirtualClock) -> None:
        self.provider = provider
        self.clock = clock
        self.store: Any = MemorySessionStore()

    def config(self, *, provider: dict[str, Any] | None = None, **changes: Any) -> BffConfig:
        return BffConfig(
            **{
                "public_url": PUBLIC_URL,
                "provider": Provider(
                    **{
                        "issuer": self.provider.issuer,
                        "client": ClientSecretBasic(CLIENT_ID, Secret(CLIENT_SECRET.encode())),
                        "scopes": ("openid", "offline_access"),
                        "timeout": 20.0,  # a busy machine is no outage
                        **(provider or {}),
                    }
                ),
                "keys": {1: KEY},
                "active_key": 1,
                "logout": ProviderLogout.ASK,
                **changes,
            }
        )

    @asynccontextmanager
    async def bff(self, app: Any = None, **changes: Any) -> AsyncIterator[BackendForFrontend]:
        config = self.config(**changes)
        async with BackendForFrontend(app or application(), config, self.store, clock=self.clock) as bff:
            yield bff

    @asynccontextmanager
    async def browser(self, app: Any = None, **changes: Any) -> AsyncIterator[Browser]:
        async with self.bff(app, **changes) as bff, Browser(bff) as browser:
            yield browser


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def provider(clock: VirtualClock) -> Iterator[FakeProvider]:
    with FakeProvider(f"{PUBLIC_URL}/auth/callback", f"{PUBLIC_URL}/") as fake:
        fake.clock = clock.now
        yield fake
        assert fake.complaints == []


@pytest.fixture
def world(provider: FakeProvider, clock: VirtualClock) -> World:
    return World(provider, clock)


@pytest.fixture
async def browser(world: World) -> AsyncIterator[Browser]:
    async with world.browser() as browser:
        yield browser
