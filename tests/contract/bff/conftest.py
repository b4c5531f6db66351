"""Every session store on a fresh backend. `pair` is the view of two processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from token_service.bff import MemorySessionStore, SessionStore
from token_service.bff.stores.redis import RedisSessionStore
from token_service.bff.stores.sql import SqlSessionStore

STORES = ["memory", "sqlite", "postgres", "redis"]


@asynccontextmanager
async def opened_store(url: str, timeout: float = 60) -> AsyncIterator[SessionStore]:
    """Open the store at a URL, as a process of its own does."""
    if url.startswith("redis"):
        async with Redis.from_url(url) as client:
            yield RedisSessionStore(client, prefix="test", timeout=timeout)
        return
    engine = create_async_engine(url)
    try:
        yield SqlSessionStore(engine, timeout=timeout)
    finally:
        await engine.dispose()


async def store_url(name: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """Return the URL of a fresh backend."""
    if name == "redis":
        return str(request.getfixturevalue("redis_url"))
    url = (
        f"sqlite+aiosqlite:///{directory}/sessions.db"
        if name == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    async with opened_store(url) as store:
        assert isinstance(store, SqlSessionStore)
        await store.create_tables()
    return str(url)


@pytest.fixture(params=STORES)
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SessionStore, SessionStore]]:
    if request.param == "memory":
        store = MemorySessionStore()
        yield store, store
        return
    url = await store_url(request.param, request, tmp_path)
    async with opened_store(url) as one, opened_store(url) as other:
        yield one, other


@pytest.fixture
def store(pair: tuple[SessionStore, SessionStore]) -> SessionStore:
    return pair[0]
