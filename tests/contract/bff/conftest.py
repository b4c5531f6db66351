"""Every session store on a fresh backend. `pair` is the view of two processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.session_stores import fresh_store, opened_store
from token_service.bff import MemorySessionStore, SessionStore

STORES = ["memory", "sqlite", "postgres", "redis"]


@pytest.fixture(params=STORES)
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[SessionStore, SessionStore]]:
    if request.param == "memory":
        store = MemorySessionStore()
        yield store, store
        return
    url = await fresh_store(request.param, request, tmp_path)
    async with opened_store(url) as one, opened_store(url) as other:
        yield one, other


@pytest.fixture
def store(pair: tuple[SessionStore, SessionStore]) -> SessionStore:
    return pair[0]
