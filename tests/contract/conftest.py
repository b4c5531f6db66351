"""Fixtures that run every suite here over every backend of its port.

`stores` is the view of one node on a fresh backend, `pair` the views of two nodes.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.support.memory_audit import AUDIT_KEYS
from tests.support.memory_stores import MemoryStores
from tests.support.postgres import database_name
from token_service.stores.sql import SqlStores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BACKENDS = ["memory", "sqlite", "postgres"]


async def _migrate(url: str) -> None:
    async with SqlStores(url) as stores:
        await stores.migrate()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: Any) -> Iterator[str]:
    """Name of a migrated database to copy."""
    url = postgres_server.create_database()
    asyncio.run(_migrate(url))
    yield database_name(url)
    postgres_server.drop_database(url)


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a fresh, migrated SQLite database."""
    path = tmp_path / "stores.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_database(postgres_server: Any, postgres_template: str) -> Iterator[str]:
    """URL of a fresh, migrated PostgreSQL database."""
    url = postgres_server.create_database(template=postgres_template)
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return Backend(request.param, request)


@pytest.fixture(params=["sqlite", "postgres"])
def sql_backend(request: pytest.FixtureRequest) -> Backend:
    """Only the SQL backends, for tests of connections, which memory does not have."""
    return Backend(request.param, request)


class Backend:
    """Opens stores that share one fresh database, as several nodes do."""

    def __init__(self, name: str, request: pytest.FixtureRequest) -> None:
        self.name = name
        self.url = request.getfixturevalue(f"{name}_database") if name != "memory" else ""
        self._memory = MemoryStores()

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Any]:
        if self.name == "memory":
            yield self._memory
        else:
            options = {"audit_keys": AUDIT_KEYS, "node_id": f"node-{uuid4()}", **options}
            async with SqlStores(self.url, **options) as stores:
                yield stores


@pytest.fixture
async def stores(backend: Backend) -> AsyncIterator[Any]:
    async with backend.open() as opened:
        yield opened


@pytest.fixture
async def pair(backend: Backend) -> AsyncIterator[tuple[Any, Any]]:
    async with backend.open() as one, backend.open() as other:
        yield one, other
