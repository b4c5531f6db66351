"""Servers for the tests: started once, used through a fresh database or an emptied Redis each time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgres import PostgresDatabases, PostgresServer, external_postgres
from tests.support.redis import RedisServer, external_redis, flush

if TYPE_CHECKING:
    from collections.abc import Iterator

# The duration of an example depends more on the machine than on the tested code.
settings.register_profile(
    "any-machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

# All servers are on loopback. Without these variables, clients would ask the machine's proxy for them.
os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC reads no other name; empty means none
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost", "::1")))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """The PostgreSQL that tests share. A test that stops or kills its server uses `private_postgres`."""
    external = external_postgres()
    if external is not None:
        yield external
        return
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresDatabases) -> Iterator[str]:
    """`postgresql+asyncpg://` URL of a fresh, empty database, dropped afterwards."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that this test alone may stop, kill and pause."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of the Redis that tests share. `redis_url` empties it first."""
    external = external_redis()
    if external is not None:
        yield external
        return
    with RedisServer() as server:
        yield server.url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """`redis://` URL of an empty Redis."""
    flush(redis_server)
    return redis_server


@pytest.fixture
def private_redis() -> Iterator[RedisServer]:
    """A Redis that this test alone may stop, kill, pause and empty."""
    with RedisServer() as server:
        yield server
