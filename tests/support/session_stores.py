"""Session stores by URL, as processes of an application open them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from token_service.bff import SessionStore
from token_service.bff.stores.redis import RedisSessionStore
from token_service.bff.stores.sql import SqlSessionStore


@asynccontextmanager
async def opened_store(url: str, timeout: float = 60) -> AsyncIterator[SessionStore]:
    """Open the store at a URL, as a process of its own does."""
    if url.startswith("redis"):
        async with RedisSessionStore.opened(url, prefix="test", timeout=timeout) as store:
            yield store
        return
    engine = create_async_engine(url)
    try:
        yield SqlSessionStore(engine, timeout=timeout)
    finally:
        await engine.dispose()


async def fresh_store(name: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """Return the URL of a fresh backend: `sqlite`, `postgres` or `redis`."""
    if name == "redis":
        return str(request.getfixturevalue("redis_url"))
    if name == "sqlite":
        url = f"sqlite+aiosqlite:///{directory}/sessions.db"
    else:
        url = str(request.getfixturevalue("postgres_url"))
    async with opened_store(url) as store:
        assert isinstance(store, SqlSessionStore)
        await store.create_tables()
    return url
