"""Processes of `token-service` that share the time of its imports.

Most of the processor time of a node's start, and nearly all of a command's, goes into imports. One process makes the
imports, and each start is a fork of it: no thread runs there and gRPC is not in use, so a fork is safe, as for the
workers of a node. What a process does before and during its imports needs a process of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT: Final = Path(__file__).resolve().parents[2]
_COMMAND: Final = """#!{python} -IS
import json, os, signal, socket, sys

umask = os.umask(0o077)
told = socket.socket(socket.AF_UNIX)
told.connect({path!r})
job = json.dumps(
    {{"arguments": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "umask": umask}}
).encode()
socket.send_fds(told, [len(job).to_bytes(4, "big")], [0, 1, 2])
told.sendall(job)
pid = int.from_bytes(told.recv(4), "big")
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _frame: os.kill(pid, number))
code = os.waitstatus_to_exitcode(int.from_bytes(told.recv(4), "big"))
sys.exit(code if code >= 0 else 128 - code)
"""
_FORK_TIMEOUT: Final = 120.0
"""Seconds until a process is forked, the imports before the first one included. Only a hang takes as long."""
_lock = threading.Lock()
_preloaded: _Preloaded | None = None


class PreloadedProcess:
    """A process of `token-service` in its own session, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: BinaryIO
    ) -> None:
        umask = os.umask(0o077)
        os.umask(umask)
        job = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd), "umask": umask}
        data = json.dumps(job).encode()
        self.args = ["token-service", *arguments]
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self._told = socket.socket(socket.AF_UNIX)
        self._told.settimeout(_FORK_TIMEOUT)
        self._told.connect(str(_start().path))
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor, not a path
            descriptors = [nothing.fileno(), output.fileno(), output.fileno()]
            socket.send_fds(self._told, [len(data).to_bytes(4, "big")], descriptors)
            self._told.sendall(data)
            answer = self._told.recv(4)
        if not answer:  # 0 as a process id would mean the process group of the tests
            raise RuntimeError(
                "the process that makes the imports ended; its error is in the output of the run"
            )
        self.pid = int.from_bytes(answer, "big")

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raise `subprocess.TimeoutExpired`."""
        with self._waiting:
            if self.returncode is None:
                ending = select.poll()
                ending.register(self._told, select.POLLIN)
                if not ending.poll(None if timeout is None else timeout * 1000):
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                status = self._told.recv(4)
                assert status, "the process that makes the imports ended"
                self.returncode = os.waitstatus_to_exitcode(int.from_bytes(status, "big"))
                self._told.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def is_possible() -> bool:
    """Return whether this machine can start such processes, and this run may: coverage begins with a process."""
    return sys.platform == "linux" and not any(name.startswith(("COV_", "COVERAGE_")) for name in os.environ)


def token_service() -> list[str]:
    """Return the program of a command line: `token-service`, preloaded where possible."""
    if is_possible():
        return [str(_start().path.with_name("token-service"))]
    return [sys.executable, "-m", "token_service"]


def path_of_commands() -> str:
    """Return a PATH on which `token-service` is preloaded and the other programs are those of the environment."""
    directories = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    return os.pathsep.join([str(_start().path.parent), *directories] if is_possible() else directories)


class _Preloaded:
    """The process that makes the imports."""

    def __init__(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="token-service-preloaded-"))
        self.path = directory / "socket"
        command = directory / "token-service"
        command.write_text(_COMMAND.format(python=sys.executable, path=str(self.path)))
        command.chmod(0o700)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.path))
            listening.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(listening.fileno())],
                stdin=subprocess.PIPE,
                cwd=_ROOT,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        shutil.rmtree(self.path.parent, ignore_errors=True)


def _start() -> _Preloaded:
    global _preloaded  # noqa: PLW0603 - one for the whole run
    with _lock:
        if _preloaded is None:
            _preloaded = _Preloaded()
            atexit.register(_preloaded.close)
        return _preloaded


def _serve(listening: socket.socket) -> dict[str, Any]:
    """Fork a process for each connection. Returns only in a forked process, with what it was asked for."""
    events = select.poll()
    events.register(listening, select.POLLIN)
    events.register(0, 0)  # its end is the end of the test run
    ends: dict[int, tuple[int, socket.socket]] = {}
    askers: dict[int, int] = {}
    while True:
        for descriptor, _ in events.poll():
            if descriptor == 0:
                for pid, _ in ends.values():
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the id is not another's
                os._exit(0)
            elif descriptor in ends:
                pid, told = ends.pop(descriptor)
                _, status = os.waitpid(pid, 0)
                os.close(descriptor)
                events.unregister(descriptor)
                if askers.pop(told.fileno(), None):
                    events.unregister(told)
                with told, contextlib.suppress(OSError):
                    told.sendall(status.to_bytes(4, "big"))
            elif descriptor in askers:
                events.unregister(descriptor)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(askers.pop(descriptor), signal.SIGKILL)
            elif descriptor == listening.fileno():
                told, _ = listening.accept()
                size, standard, _, _ = socket.recv_fds(told, 4, 3)
                data = told.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
                pid = os.fork()
                if pid == 0:
                    for each in (*ends, *(other.detach() for _, other in ends.values())):
                        os.close(each)
                    told.close()
                    return {**json.loads(data), "standard": standard}
                for each in standard:
                    os.close(each)
                with contextlib.suppress(OSError):
                    told.sendall(pid.to_bytes(4, "big"))
                end = os.pidfd_open(pid)
                ends[end], askers[told.fileno()] = (pid, told), pid
                events.register(end, select.POLLIN)
                events.register(told, 0)


def _become(job: Mapping[str, Any]) -> None:
    """Become the process that was asked for, as after its start."""
    os.setsid()
    for number, descriptor in enumerate(job["standard"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.umask(job["umask"])
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    # The streams of the interpreter still know whether their former files could seek.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - descriptors, for the whole process
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", write_through=True
    )
    import token_service.__main__ as program

    sys.argv = [program.__file__, *job["arguments"]]
    program.main()


def _preload() -> None:
    """Make the imports of `token-service serve` and of the commands."""
    import uvloop

    import token_service.app.administration
    import token_service.app.serve
    import token_service.cli.serve
    import token_service.stores.sql.migrations.upgrade

    del uvloop, token_service


def _main() -> None:
    listening = socket.socket(fileno=int(sys.argv[1]))
    _preload()
    gc.collect()
    gc.freeze()  # so that forks share its objects
    job = _serve(listening)
    listening.close()
    _become(job)


if __name__ == "__main__":
    _main()
