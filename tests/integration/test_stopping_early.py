"""SIGTERM and SIGINT before the service is ready, also as the first process of a container.

The kernel drops a signal to the first process if the process has no handler for it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.integration.calls import Api, Follower
from tests.integration.nodes import Node
from tests.support.deadline import eventually, eventually_sync
from tests.support.managed import ManagedProcess

BLOCK = """
import pathlib, time
pathlib.Path({marker!r}).touch()
while True:
    time.sleep(0.01)
"""
# A shell that runs the tests in the background ignores SIGINT, and the service would inherit that.
DEFAULT_SIGINT = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
]
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
if os.getuid() != 0:
    UNSHARE += ["--user", "--map-root-user"]


class Starting:
    def __init__(self, process: ManagedProcess, marker: Path, *, first: bool) -> None:
        self.process = process
        self.marker = marker
        self.first = first

    @property
    def pid(self) -> int:
        return psutil.Process(self.process.pid).children()[0].pid if self.first else self.process.pid

    def is_blocked(self) -> bool:
        return self.marker.exists()

    def stop(self, number: signal.Signals) -> int:
        os.kill(self.pid, number)
        return self.process.wait(60)


@contextmanager
def starting(
    directory: Path, *, first: bool = False, blocked: str = "", workers: int = 1, **settings: str
) -> Iterator[Starting]:
    """Start a service that blocks in the import of the module `blocked`, as process 1 if `first`."""
    marker = directory / "marker"
    path = directory / "modules"
    path.mkdir()
    if blocked:
        (path / f"{blocked}.py").write_text(BLOCK.format(marker=str(marker)))
    given = {
        "GRPC_ADDRESS": "127.0.0.1:0",
        "HTTP_ADDRESS": "127.0.0.1:0",
        "DATA_DIR": str(directory / "data"),
        "SIGNING_ALGORITHM": "ES256",
        "WORKERS": str(workers),
        "SHUTDOWN_GRACE": "10m",
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    environ = {f"TOKEN_SERVICE_{name}": value for name, value in given.items()}
    root = str(Path(__file__).resolve().parents[2])
    process = ManagedProcess(
        [*DEFAULT_SIGINT, *(UNSHARE if first else []), sys.executable, "-m", "token_service", "serve"],
        log=directory / "log",
        env={**inherited, **environ, "PYTHONPATH": f"{path}{os.pathsep}{root}"},
        cwd=directory,
    )
    try:
        yield Starting(process, marker, first=first)
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("first", "number", "code"),
    [
        (True, signal.SIGTERM, 143),
        (True, signal.SIGINT, 130),
        (False, signal.SIGTERM, -signal.SIGTERM),
        (False, signal.SIGINT, 130),
    ],
)
def test_a_signal_during_the_import_of_the_command_line_ends_the_process(
    tmp_path: Path, *, first: bool, number: signal.Signals, code: int
) -> None:
    with starting(tmp_path, first=first, blocked="click") as service:
        eventually_sync(service.is_blocked)
        assert service.stop(number) == code
        assert service.process.log_text() == ""


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_during_the_import_of_the_service_ends_it(
    tmp_path: Path, *, first: bool, number: signal.Signals, workers: int
) -> None:
    with starting(tmp_path, first=first, blocked="uvloop", workers=workers) as service:
        eventually_sync(service.is_blocked)
        assert service.stop(number) == 0
        assert "Traceback" not in service.process.log_text()


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_during_the_wait_for_a_silent_database_ends_the_service(
    tmp_path: Path, *, first: bool, number: signal.Signals, workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"postgresql://user:secret@127.0.0.1:{silent.getsockname()[1]}/tokens"
        with starting(tmp_path, first=first, workers=workers, DATABASE_URL=url) as service:
            connection, _ = silent.accept()
            with connection:
                assert service.stop(number) == 0
            log = service.process.log_text()
            assert "stopped before the start was complete" in log
            assert "is ready" not in log
            assert "Traceback" not in log


async def test_a_signal_during_the_migration_of_another_node_ends_the_service(
    tmp_path: Path, postgres_url: str
) -> None:
    connection = await asyncpg.connect(postgres_url.replace("+asyncpg", ""))
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", 0x746F6B656E737663)

        async def waiting() -> int:
            found = await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            return int(found)

        with starting(tmp_path, DATABASE_URL=postgres_url) as service:
            await eventually(waiting)
            assert service.stop(signal.SIGTERM) == 0
            assert "stopped before the start was complete" in service.process.log_text()
        assert await connection.fetchval("SELECT to_regclass('alembic_version')") is None
    finally:
        await connection.close()


async def test_a_second_signal_ends_a_stopping_node_immediately() -> None:
    env = {"TOKEN_SERVICE_SHUTDOWN_GRACE": "10m", "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
    async with Node(env=env) as node, Api(node.grpc_address) as api, Follower(api, "", "deaf"):

        async def is_followed() -> bool:
            return (await api.revoke(subject="counted", wait=0.2)).subscribers_connected == 1

        await eventually(is_followed)
        call = asyncio.create_task(api.revoke(subject="waited-for", wait=60))
        # The node writes the line before it waits for the subscriber.
        await eventually(lambda: "waited-for" in node.log_text())
        node.send_signal(signal.SIGTERM)
        await eventually(lambda: "serve stopping" in node.log_text())
        node.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(node.wait) == 1
        assert "received a second signal: ending at once" in node.log_text()
        await asyncio.gather(call, return_exceptions=True)


def test_a_process_that_does_not_stop_in_time_is_ended(tmp_path: Path) -> None:
    program = "import threading, token_service.app.serve as s; s._end_late(0.05); threading.Event().wait()"
    process = ManagedProcess([sys.executable, "-c", program], log=tmp_path / "log")
    assert process.wait(60) == 1
    assert "the node did not stop within 0.05 s: ending at once" in process.log_text()
