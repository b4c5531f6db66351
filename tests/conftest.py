"""Servers for the tests: started once, used through a fresh database or an emptied Redis each time."""

from __future__ import annotations

import faulthandler
import gc
import os
from typing import TYPE_CHECKING

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import HealthCheck, settings

from tests.support.postgres import PostgresDatabases, PostgresServer, external_postgres
from tests.support.redis import RedisServer, external_redis, flush

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# The duration of an example depends more on the machine than on the tested code.
settings.register_profile(
    "any-machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

_TEARDOWN_LIMIT = 300.0
"""Seconds for all that ends after one test. Threads may wait for as long as `eventually_sync` lets them."""

# All servers are on loopback. Without these variables, clients would ask the machine's proxy for them.
os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC reads no other name; empty means none
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1", "localhost", "::1")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move files with a slow test to the front.

    With one process for each file, a long file that begins last leaves the other processes without work.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Keep the collected tests out of the garbage collector: its visits to them took a fifth of the processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """End this process, with the stacks of its threads, if the end of a test hangs.

    The `timeout` of a test counts once. A test that it has stopped may leave a thread that waits for ever, and the
    event loop waits for its threads. With pytest-xdist, the test has then crashed its worker, and another one goes on.
    """
    # Standard error itself is captured.
    original = item.config.stash.get(fault_handler_stderr_fd_key, 2)
    faulthandler.dump_traceback_later(_TEARDOWN_LIMIT, exit=True, file=original)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """The PostgreSQL that tests share. A test that stops or kills its server uses `private_postgres`."""
    external = external_postgres()
    if external is not None:
        yield external
        return
    # Without fsync, writes survive a crash of the server but not of the machine, which no test causes.
    with PostgresServer(fsync=False) as server:
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
