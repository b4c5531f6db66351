"""A started program with its children: output in a file, signals to the whole tree, no process left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.support import reaper
from tests.support.deadline import eventually_sync
from tests.support.preloaded import PreloadedProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


# Drops the privileges of root and becomes the program.
_BECOME = (
    "import os, sys; user, group = int(sys.argv[1]), int(sys.argv[2]); "
    "os.setgroups([]); os.setgid(group); os.setuid(user); os.execv(sys.argv[3], sys.argv[3:])"
)


def as_user(
    command: Sequence[str | os.PathLike[str]], user: int | None, group: int | None
) -> list[str | os.PathLike[str]]:
    """Return a command that runs `command` as this user and group; without a user, the command itself.

    `subprocess` can do that as well, but only by a real fork. A process that uses gRPC must not fork: gRPC's fork
    handlers run in the child, which then hangs or dies before it becomes the program.
    """
    if user is None:
        return [*command]
    return [
        sys.executable,
        "-I",
        "-S",
        "-c",
        _BECOME,
        str(user),
        str(user if group is None else group),
        *command,
    ]


def is_alive(pid: int) -> bool:
    """Return whether a process exists and has not ended: a zombie only waits for its parent."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class ManagedProcess:
    """A program in its own session.

    `kill`, `pause` and `resume` reach the whole tree, because a server that forks (PostgreSQL, `--workers`) puts its
    children into their own process groups.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: int | None = None,
        group: int | None = None,
        preloaded: bool = False,
    ) -> None:
        """Start the program. `preloaded`: `command` has arguments of `token-service`, started as a `PreloadedProcess`."""
        self.log = log
        self._popen: subprocess.Popen[bytes] | PreloadedProcess
        with log.open("ab") as output:
            if preloaded:
                self._popen = PreloadedProcess(
                    [str(each) for each in command],
                    env=env or os.environ,
                    cwd=cwd or Path.cwd(),
                    output=output,
                )
                reaper.watch(self.pid)
                return
            self._popen = subprocess.Popen(
                as_user(command, user, group),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        reaper.watch(self.pid)

    @property
    def pid(self) -> int:
        """Process id of the program itself, and of its process group."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the program runs. A paused program runs."""
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code as in `subprocess.Popen.returncode`: negative for a signal, None while running."""
        return self._popen.poll()

    def children(self) -> list[int]:
        """Return the ids of all processes below this one, at any depth."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself, not to its children."""
        self._popen.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code. Raise `subprocess.TimeoutExpired`."""
        code = self._popen.wait(timeout)
        reaper.forget(self.pid)
        return code

    def terminate(self, timeout: float, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the program to end and return its exit code.

        After `timeout` seconds, kill it and raise `TimeoutError` with its output.
        """
        self.send_signal(number)
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"still running {timeout} s after {number.name}:\n{self.log_tail()}") from None
        self._kill_group()  # children that it left behind
        return code

    def kill(self) -> None:
        """Send SIGKILL to the whole tree and return when it has ended. Do nothing if it had ended before."""
        if self._popen.poll() is None:
            tree = self._tree()
            for process in tree:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            self._popen.wait(30)
            # init reaps orphans and may take its time; a dead process holds no port and no file.
            eventually_sync(
                lambda: not any(is_alive(process.pid) for process in tree), timeout=30, interval=0.005
            )
        self._kill_group()
        reaper.forget(self.pid)

    def pause(self) -> None:
        """Send SIGSTOP to the whole tree: alive and connected, but silent."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Send SIGCONT to the whole tree."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def log_text(self) -> str:
        """Return the standard output and error of the program."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of the output, for a failure message."""
        return "\n".join(self.log_text().splitlines()[-lines:])

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
