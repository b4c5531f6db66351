"""The supervisor with real processes and a stand-in for the service: a worker that answers its process id."""

from __future__ import annotations

import os
import signal
import socket
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess, is_alive

PROGRAM = textwrap.dedent("""
    import os, pathlib, signal, socket, sys, time
    from token_service.app.supervisor import Worker, supervise
    from token_service.config import load_settings
    from token_service.errors import ConfigurationError
    from token_service.telemetry import configure_logging

    mode = pathlib.Path(sys.argv[1])
    configure_logging("info", as_json=False)
    try:
        outcome = supervise(
            load_settings({}, os.environ),
            lambda real: print("announced", real.grpc_address, real.http_address, flush=True),
        )
    except ConfigurationError as error:
        sys.exit(error.message)
    if not isinstance(outcome, Worker):
        sys.exit(outcome)

    what = mode.read_text()
    if what.startswith("exit"):
        sys.exit(int(what.split()[1]))

    def stop(*_):
        print("worker stops", os.getpid(), flush=True)
        if mode.read_text() != "stubborn":
            sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, lambda *_: print("worker interrupted", flush=True))
    assert outcome.settings.reuse_port
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    address = outcome.settings.grpc_address
    listener.bind((address.host, address.port))
    listener.listen()
    while what == "unready":
        time.sleep(0.05)  # short: a signal just before it is handled only after it
    outcome.ready()
    while True:
        connection, _ = listener.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()
""")


class Supervised:
    def __init__(self, directory: Path, process: ManagedProcess, mode: Path) -> None:
        self.directory = directory
        self.process = process
        self.mode = mode

    @property
    def log(self) -> str:
        return self.process.log_text()

    def announced(self) -> tuple[str, int]:
        line = eventually_sync(lambda: [x for x in self.log.splitlines() if x.startswith("announced")])
        assert len(line) == 1
        host, _, port = line[0].split()[1].rpartition(":")
        return host, int(port)

    def answering(self, count: int) -> set[int]:
        """Wait until `count` processes answer, and return their ids."""
        address = self.announced()

        def found() -> set[int] | None:
            pids = set()
            for _ in range(40):
                try:
                    with socket.create_connection(address, 60) as connection:
                        pids.add(int(connection.recv(100) or 0))
                except ConnectionError:  # the connection waited for a worker that died
                    return None
            return pids if len(pids - {0}) == count else None

        answer = eventually_sync(found)
        assert answer is not None
        return answer

    def ended(self) -> int:
        return self.process.wait(60)


@pytest.fixture
def mode(tmp_path: Path) -> Path:
    path = tmp_path / "mode"
    path.write_text("serve")
    return path


@contextmanager
def supervised(mode: Path, **settings: str) -> Iterator[Supervised]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    given = {
        "WORKERS": "3",
        "GRPC_ADDRESS": "127.0.0.1:0",
        "HTTP_ADDRESS": "127.0.0.1:0",
        "SHUTDOWN_GRACE": "60s",
    }
    environ = {f"TOKEN_SERVICE_{name}": value for name, value in {**given, **settings}.items()}
    process = ManagedProcess(
        [sys.executable, "-c", PROGRAM, str(mode)], log=mode.with_name("log"), env={**inherited, **environ}
    )
    try:
        yield Supervised(mode.parent, process, mode)
    finally:
        process.kill()


def gone(pids: set[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


def test_all_workers_answer_on_one_port_and_stop_on_sigterm(mode: Path) -> None:
    with supervised(mode) as service:
        pids = service.answering(3)
        assert pids == set(service.process.children())
        assert service.log.count("announced") == 1
        assert service.process.terminate(60) == 0
        assert service.log.count("worker stops") == 3
        assert gone(pids)


def test_a_dead_worker_is_replaced(mode: Path) -> None:
    with supervised(mode) as service:
        victim, *rest = service.answering(3)
        os.kill(victim, signal.SIGKILL)
        eventually_sync(lambda: victim not in service.answering(3))
        assert set(rest) <= service.answering(3)
        assert "ended (signal SIGKILL); starting another" in service.log
        assert service.log.count("announced") == 1


def test_workers_end_with_a_killed_parent(mode: Path) -> None:
    with supervised(mode) as service:
        pids = service.answering(3)
        os.kill(service.process.pid, signal.SIGKILL)
        eventually_sync(lambda: gone(pids))
        assert service.log.count("worker stops") == 3
        assert service.log.count("the supervisor has ended") == 3


def test_ctrl_c_is_handled_only_by_the_parent(mode: Path) -> None:
    with supervised(mode) as service:
        service.answering(3)
        os.killpg(service.process.pid, signal.SIGINT)
        assert service.ended() == 0
        assert "worker interrupted" not in service.log
        assert "SIGINT: stopping the workers" in service.log
        assert service.log.count("worker stops") == 3


def test_workers_that_do_not_stop_in_time_are_killed(mode: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode.write_text("stubborn")
    with supervised(mode, SHUTDOWN_GRACE="0s") as service:
        pids = service.answering(3)
        assert service.process.terminate(60) == 1
        assert service.log.count("did not stop in time") == 3
        assert gone(pids)


def test_a_second_signal_kills_the_workers_immediately(mode: Path) -> None:
    mode.write_text("stubborn")
    with supervised(mode, SHUTDOWN_GRACE="10m") as service:
        pids = service.answering(3)
        service.process.send_signal(signal.SIGTERM)
        eventually_sync(lambda: service.log.count("worker stops") == 3)
        service.process.send_signal(signal.SIGTERM)
        assert service.ended() == 1
        assert gone(pids)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_the_supervisor_can_be_stopped_before_it_is_ready(mode: Path, stop: signal.Signals) -> None:
    mode.write_text("unready")
    with supervised(mode) as service:
        pids = set(eventually_sync(service.process.children))
        assert len(pids) == 1  # the others wait for the first
        service.process.send_signal(stop)
        service.ended()
        eventually_sync(lambda: gone(pids))
        assert "announced" not in service.log


def test_a_wrong_configuration_ends_the_supervisor_with_one_error(mode: Path) -> None:
    mode.write_text("exit 2")
    with supervised(mode) as service:
        assert service.ended() == 2
        assert service.log.count("can't start (exit code 2)") == 1
        assert "announced" not in service.log


def test_the_supervisor_gives_up_if_no_worker_can_start(mode: Path) -> None:
    mode.write_text("exit 7")
    with supervised(mode) as service:
        assert service.ended() == 7
        assert service.log.count("starting another") == 4
        assert "announced" not in service.log


def test_running_workers_stay_if_replacements_cannot_start(mode: Path) -> None:
    with supervised(mode) as service:
        victim, *rest = service.answering(3)
        mode.write_text("exit 2")
        os.kill(victim, signal.SIGKILL)
        eventually_sync(lambda: service.log.count("ended (exit code 2); starting another") >= 3)
        assert service.answering(2) == set(rest)
        mode.write_text("serve")
        assert set(rest) < service.answering(3)


def test_a_port_in_use_is_refused(mode: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEPORT, 1
        )  # refused although it would share the port
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with supervised(mode, HTTP_ADDRESS=f"127.0.0.1:{taken.getsockname()[1]}") as service:
            assert service.ended() == 1
            assert "TOKEN_SERVICE_HTTP_ADDRESS: can't listen on" in service.log
            assert service.process.children() == []


def test_sighup_reaches_the_workers_and_ends_neither_them_nor_the_supervisor(mode: Path) -> None:
    with supervised(mode) as service:
        pids = service.answering(3)
        service.process.send_signal(signal.SIGHUP)
        eventually_sync(lambda: "SIGHUP: the workers load their settings again" in service.log)
        # The stand-in has no handler yet: the signal waits.
        eventually_sync(lambda: all(_waits_for(pid, signal.SIGHUP) for pid in pids))
        assert service.answering(3) == pids


def test_sighup_during_the_stop_does_not_end_the_supervisor(mode: Path) -> None:
    with supervised(mode) as service:
        service.answering(3)
        service.process.send_signal(signal.SIGTERM)
        while service.process.running:
            with suppress(ProcessLookupError):
                service.process.send_signal(signal.SIGHUP)
        assert service.ended() == 0


def _waits_for(pid: int, number: signal.Signals) -> bool:
    """Tell whether a signal waits for a process that blocks it."""
    status = Path(f"/proc/{pid}/status").read_text()
    waiting = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(waiting.split()[1], 16) & 1 << (number - 1))
