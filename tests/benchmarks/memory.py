"""The memory of a node with many sessions, clients and streams, and of a validator with many revocations."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import asyncpg
import grpc

from tests.benchmarks.duel import Effort
from tests.benchmarks.growth import MANY_REVOCATIONS, MANY_SESSIONS, fill_log, fill_sessions
from tests.benchmarks.rpcs import Target, session_request
from tests.benchmarks.starting import MANY_CLIENTS, MEMORY_OF_CLIENTS, client_rows, resident
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases, driver_url
from tests.support.processes import ServiceProcess
from token_service.config.settings import DATABASE_FILE
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

SERVE: Final = (sys.executable, "-m", "token_service", "serve")
"""A node that shares no memory of its imports with another process."""
ISSUER: Final = "https://tokens.test"

_CONNECTIONS: Final = 50
_STREAMS_OF_CONNECTION: Final = 100
"""The limit of a node. A connection is a caller of its own in development."""
_STREAMS: Final = _CONNECTIONS * _STREAMS_OF_CONNECTION
_CALLS: Final = 2_000
"""New sessions before a measurement, so that connections to the database and buffers exist."""
_REST: Final = 5
"""Seconds for which a node rests before a measurement, and for which it is measured."""
_START: Final = 120


def node(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure a node on PostgreSQL: empty, with many sessions, then with clients, then with streams as well."""
    del effort  # one node: the database takes longer to fill than the node to be measured
    url = postgres.create_database()
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_DATABASE_URL": url,
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": b64encode(secrets.token_bytes(32)).decode(),
    }
    with (
        ServiceProcess(env=env, ready_timeout=_START, command=SERVE) as service,
        tempfile.TemporaryDirectory() as scratch,
    ):
        directory = Path(scratch)
        Target(service, directory).call("IssueToken", session_request().SerializeToString())
        empty = _after_restart(service, directory)
        say("node", f"{empty / 1e6:.0f} MB, empty; filling the database")
        service.terminate()
        asyncio.run(fill_sessions(url, MANY_SESSIONS))
        service.start()
        with_sessions = _after_restart(service, directory)
        say("node", f"{with_sessions / 1e6:.0f} MB with sessions")
        service.terminate()
        asyncio.run(_register(url, MANY_CLIENTS))
        service.start()
        with_clients = _after_restart(service, directory)
        say("node", f"{with_clients / 1e6:.0f} MB with clients")
        with_streams = asyncio.run(_with_streams(service))
        say("node", f"{with_streams / 1e6:.0f} MB with streams")
    yield _added(f"memory of {MANY_SESSIONS:,} sessions of a node", empty, with_sessions)
    clients = (with_clients - with_sessions) / 1e6
    yield Row(
        f"memory of {MANY_CLIENTS:,} clients, PostgreSQL",
        f"{clients:.0f} MB",
        f"limit {MEMORY_OF_CLIENTS} MB",
        clients / MEMORY_OF_CLIENTS,
        at_most=1.0,
        note=_before_and_after(with_sessions, with_clients),
    )
    yield Row(
        f"memory of a stream of a node, of {_STREAMS:,}",
        f"{(with_streams - with_clients) / _STREAMS / 1e3:.1f} KB",
        note=f"on {_CONNECTIONS} connections; {_before_and_after(with_clients, with_streams)}",
    )


def _after_restart(service: ServiceProcess, directory: Path) -> int:
    """Return the memory of a node that has started, has had some calls and rests."""
    service.restart()
    Target(service, directory).many("IssueToken", session_request().SerializeToString(), _CALLS)
    return asyncio.run(_at_rest(service))


async def _at_rest(service: ServiceProcess) -> int:
    """Return the median of the memory of a node over some seconds."""
    await asyncio.sleep(_REST)
    sizes = []
    for _ in range(_REST):
        sizes.append(resident(service))
        await asyncio.sleep(1)
    return int(median(sizes))


async def _register(url: str, count: int) -> None:
    """Write clients and their secrets into a database of PostgreSQL."""
    connection = await asyncpg.connect(driver_url(url))
    try:
        for table, columns, rows in client_rows(count):
            await connection.copy_records_to_table(table, columns=columns, records=rows, timeout=_START)
        await connection.execute("UPDATE log_head SET client_revision = $1", count)
        await connection.execute("VACUUM ANALYZE clients, client_secrets", timeout=_START)
    finally:
        await connection.close()


async def _with_streams(service: ServiceProcess) -> int:
    """Return the memory of a node while many named validators follow its stream."""
    async with open_streams(service.grpc_address, _CONNECTIONS, _STREAMS_OF_CONNECTION):
        return await _at_rest(service)


@asynccontextmanager
async def open_streams(address: str, connections: int, streams: int) -> AsyncIterator[None]:
    """Hold `streams` revocation streams on each of some connections. All have caught up when the block begins."""
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        caught_up = []
        for connection in range(connections):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            stub: Any = TokenServiceStub(channel)
            for number in range(streams):
                request = pb.StreamRevocationsRequest(subscriber_id=f"validator-{connection}-{number}")
                caught_up.append(asyncio.Event())
                tasks.append(asyncio.create_task(_read(stub.StreamRevocations(request), caught_up[-1])))
        try:
            ready: asyncio.Future[Any] = asyncio.gather(*(event.wait() for event in caught_up))
            futures: set[asyncio.Future[Any]] = {ready, *tasks}
            await asyncio.wait(futures, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            assert ready.done(), "not all streams caught up"
            yield
            ended = sum(task.done() for task in tasks)
            assert not ended, f"{ended} of {len(tasks)} streams ended"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _read(stream: Any, caught_up: asyncio.Event) -> None:
    async for message in stream:
        if message.caught_up:
            caught_up.set()


def validator(effort: Effort) -> Iterator[Row]:
    """Measure a validator of the client library, in its own process, without and with a million token ids."""
    rounds = max(3, effort.rounds // 3)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch, "data")
        env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_ISSUER": ISSUER}
        with ServiceProcess(env=env, data_dir=data, ready_timeout=_START) as service:
            few = [_validator(service.grpc_address, 0) for _ in range(rounds)]
            service.terminate()
            fill_log(data / DATABASE_FILE, MANY_REVOCATIONS)
            service.start()
            many = [_validator(service.grpc_address, MANY_REVOCATIONS) for _ in range(rounds)]
    before, after = (median(each["resident"] for each in side) for side in (few, many))
    highest = max(each["highest"] for each in many)
    yield Row(
        f"memory of a revocation of a validator, of {MANY_REVOCATIONS:,}",
        f"{(after - before) / MANY_REVOCATIONS:.1f} bytes",
        note=f"{_before_and_after(before, after)}, at most {highest / 1e6:.0f} MB",
    )
    seconds, at_zero = ([each["seconds"] for each in side] for side in (many, few))
    yield Row(
        f"a validator starts with {MANY_REVOCATIONS:,} revocations",
        f"{median(seconds):.2f} s",
        f"at 0: {median(at_zero):.2f} s",
        note=f"{rounds} times, from {min(seconds):.2f} to {max(seconds):.2f} s",
    )


def _validator(address: str, count: int) -> dict[str, float]:
    """Return the report of a new validator, which knows `count` revocations."""
    command = [sys.executable, "-m", "tests.benchmarks.memory_validator", address, ISSUER]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_START).stdout
    report: dict[str, float] = json.loads(output)
    assert report["revocations"] == count, f"{report['revocations']:,} of {count:,} revocations arrived"
    return report


def _added(what: str, before: float, after: float) -> Row:
    return Row(what, f"{(after - before) / 1e6:.1f} MB", note=_before_and_after(before, after))


def _before_and_after(before: float, after: float) -> str:
    return f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after"


def say(measurement: str, text: str) -> None:
    """Print the progress of a measurement."""
    print(f"bench: memory: {time.strftime('%H:%M:%S')} {measurement}: {text}", file=sys.stderr, flush=True)
