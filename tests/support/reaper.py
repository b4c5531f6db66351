"""A child process that kills the processes of the tests if the test run itself is killed.

The test run names every process group over the reaper's standard input, which ends with the run, however it ends.
A parent-death signal is worse: it fires when the *thread* that started the process ends, and setting it needs Python
code between fork and exec, which is unsafe beside gRPC's threads.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading

_lock = threading.Lock()
_reaper: subprocess.Popen[str] | None = None


def _tell(line: str) -> None:
    global _reaper  # noqa: PLW0603 - one reaper for the whole run
    with _lock:
        if _reaper is None or _reaper.poll() is not None:
            _reaper = subprocess.Popen(
                [sys.executable, "-S", "-E", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # a Ctrl-C meant for the run must not end it
            )
        assert _reaper.stdin is not None
        _reaper.stdin.write(line)
        _reaper.stdin.flush()


@atexit.register
def _dismiss() -> None:
    """Wait until the reaper has killed the remaining processes when the run ends by itself."""
    if _reaper is not None and _reaper.stdin is not None:
        _reaper.stdin.close()
        _reaper.wait(30)


def watch(group: int) -> None:
    """Kill this process group if the run ends before `forget`."""
    _tell(f"+{group}\n")


def forget(group: int) -> None:
    """Note that the process group has ended."""
    _tell(f"-{group}\n")


def _main() -> None:
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    _main()
