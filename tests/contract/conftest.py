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
import sqlalchemy as sa

from tests.support.memory_audit import AUDIT_KEYS
from tests.support.memory_stores import MemoryStores
from tests.support.postgres import database_name
from token_service.core.events.event import Actor
from token_service.core.personal_data.keys import EncryptionState
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.stores.redis import connection
from token_service.stores.sql import SqlStores
from token_service.stores.sql.schema import audit_chains, audit_events, outbox
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

BACKENDS = ["memory", "sqlite", "postgres"]
ENCRYPTED = ["sqlite-encrypted", "postgres-encrypted"]
HOLD_PERSONAL_DATA = {
    "audit_store",
    "bulk_revocation",
    "device_requests",
    "event_log",
    "logout_store",
    "personal_access_tokens",
    "purging",
    "revocation_entries",
    "revocation_log",
    "session_details",
    "session_judgments",
    "session_raises",
    "session_selections",
    "session_store",
    "subject_store",
    "upstream_sessions",
}
"""The suites of stores that hold personal data. They run on encrypted databases, too."""
WRAP = AesGcmKeyWrap([Secret(b"k" * 32)])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        suite = metafunc.module.__name__.rpartition(".test_")[2]
        names = [*BACKENDS, *(ENCRYPTED if suite in HOLD_PERSONAL_DATA else ())]
        metafunc.parametrize("backend", names, indirect=True)


async def load_wrap() -> AesGcmKeyWrap:
    return WRAP


async def _migrate(url: str) -> None:
    async with SqlStores(url) as stores:
        await stores.migrate()


async def encrypt_new(url: str) -> None:
    """Turn on the encryption of a new database as another process. Its audit events are deleted: suites count them."""
    async with SqlStores(url, audit_keys=AUDIT_KEYS, node_id="setup", load_wrap=load_wrap) as stores:
        keys = await stores.personal_data.load()
        if keys.state is EncryptionState.OFF:
            assert await stores.personal_data_changes.enable_if_empty(Actor.system("test"), 1.0)
            async with stores._database.engine.begin() as connection:
                for table in (audit_events, audit_chains, outbox):
                    await connection.execute(sa.delete(table))


@pytest.fixture(autouse=True)
def patience_with_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an operation in Redis take as long as a busy machine needs. The service falls back to SQL after a second."""
    monkeypatch.setattr(connection, "TIMEOUT", 60.0)


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


@pytest.fixture
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
        database, _, encrypted = name.partition("-")
        self.url = "" if name == "memory" else request.getfixturevalue(f"{database}_database")
        self._is_encrypted = bool(encrypted)
        self._memory = MemoryStores()

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Any]:
        if self.name == "memory":
            yield self._memory
        else:
            defaults = {"audit_keys": AUDIT_KEYS, "node_id": f"node-{uuid4()}", "load_wrap": load_wrap}
            async with SqlStores(self.url, **{**defaults, **options}) as stores:
                if self._is_encrypted:
                    await encrypt_new(self.url)
                yield stores


@pytest.fixture
async def stores(backend: Backend) -> AsyncIterator[Any]:
    async with backend.open() as opened:
        yield opened


@pytest.fixture
async def pair(backend: Backend) -> AsyncIterator[tuple[Any, Any]]:
    async with backend.open() as one, backend.open() as other:
        yield one, other
