"""The time until the server and the client library are ready."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import psutil

from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from tests.support.processes import ServiceProcess, http_status

_READY = 1.5
_IMPORT = 0.3
MANY_CLIENTS = 100_000
MEMORY_OF_CLIENTS = 150
"""Megabytes that they may take at most."""
_MORE = 2.0
_CLIENT = "token_service.client"
_USED = "TokenValidator"
"""The name to import: importing the package itself loads nothing."""


def start(effort: Effort) -> Iterator[Row]:
    """Measure from the start of the process to the first 200 of /readyz, on SQLite: without and with a database."""
    rounds = max(3, effort.rounds // 3)
    fresh: list[float] = []
    again: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            service = ServiceProcess(data_dir=Path(directory) / "data")
            try:
                for times in (fresh, again):
                    times.append(_ready_after(service))
                    service.terminate()
            finally:
                service.close()
    yield _row("server ready on SQLite, first start", fresh, _READY)
    yield _row("server ready on SQLite, later starts", again, _READY)


def many_clients(effort: Effort) -> Iterator[Row]:
    """Measure what 100,000 registered clients add to the start and to the memory of a node, on SQLite."""
    without, with_clients, memory = [], [], []
    for _ in range(max(3, effort.rounds // 3)):
        with tempfile.TemporaryDirectory() as directory:
            service = ServiceProcess(data_dir=Path(directory) / "data")
            try:
                service.start()
                service.terminate()
                without.append(_ready_after(service))
                before = resident(service)
                service.terminate()
                _register(service.data_dir / "token_service.db", MANY_CLIENTS)
                with_clients.append(_ready_after(service))
                memory.append((resident(service) - before) / 1e6)
                service.terminate()
            finally:
                service.close()
    yield _row(
        f"start with {MANY_CLIENTS:,} clients, in addition",
        [more - less for more, less in zip(with_clients, without, strict=True)],
        _MORE,
    )
    yield Row(
        f"memory of {MANY_CLIENTS:,} clients",
        f"{median(memory):.0f} MB",
        f"limit {MEMORY_OF_CLIENTS} MB",
        median(memory) / MEMORY_OF_CLIENTS,
        at_most=1.0,
        note=f"{len(memory)} times, from {min(memory):.0f} to {max(memory):.0f} MB",
    )


def _register(file: Path, count: int) -> None:
    """Write clients and their secrets into a database of SQLite."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, columns, rows in client_rows(count):
            places = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)
        connection.execute("UPDATE log_head SET client_revision = ?", (count,))


def client_rows(count: int) -> Iterator[tuple[str, Sequence[str], Iterator[tuple[object, ...]]]]:
    """Yield tables, columns and rows of clients with the settings of a web application and a secret each."""
    settings = (
        '{"client_name":"Application %d","token_endpoint_auth_method":"client_secret_basic",'
        '"grant_types":["authorization_code","refresh_token"],"scopes":["openid","profile"],'
        '"redirect_uris":["https://app-%d.example/callback"],"classification":"internal"}'
    )
    yield (
        "clients",
        ("client_id", "state", "revision", "create_time", "update_time", "metadata"),
        ((f"client-{n}", "active", n + 1, n, n, settings % (n, n)) for n in range(count)),
    )
    yield (
        "client_secrets",
        ("client_id", "secret_id", "hash", "create_time"),
        ((f"client-{n}", f"secret-{n}", hashlib.sha256(b"%d" % n).digest(), n) for n in range(count)),
    )


def resident(service: ServiceProcess) -> int:
    """Return the bytes of memory of all processes of a node."""
    parent = psutil.Process(service.pid)
    return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


def _ready_after(service: ServiceProcess) -> float:
    began = time.perf_counter()
    service.start(wait=False)
    while http_status(service.http_address, "/readyz", timeout=1) != 200:
        assert service.running, service.log_text()
        assert time.perf_counter() - began < 60, "not ready within a minute"
        time.sleep(0.005)
    return time.perf_counter() - began


def import_client(effort: Effort) -> Iterator[Row]:
    """Measure the import of the client library in a new process, gRPC included."""
    if find_spec(_CLIENT) is None:
        yield Row(f"import {_CLIENT}", "not installed")
        return
    code = (
        f"import time; t = time.perf_counter(); from {_CLIENT} import {_USED}; print(time.perf_counter() - t)"
    )
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
            ).stdout
        )
        for _ in range(max(5, effort.rounds))
    ]
    yield _row(f"import {_USED} of {_CLIENT}", times, _IMPORT)


def _row(what: str, times: list[float], limit: float) -> Row:
    middle = median(times)
    return Row(
        what,
        f"{middle:.2f} s",
        f"limit {limit} s",
        middle / limit,
        at_most=1.0,
        note=f"{len(times)} times, from {min(times):.2f} to {max(times):.2f} s",
    )
