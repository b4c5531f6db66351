"""`FileLock` excludes other processes, and lets the threads of one process in together."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.deadline import eventually_sync
from token_service.client._internal.file_lock import FileLock

HOLDER = """
import sys
from pathlib import Path
from token_service.client._internal.file_lock import FileLock
with FileLock(Path(sys.argv[1])).hold(60):
    print("held", flush=True)
    sys.stdin.readline()
print("released", flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Run another process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_other_process_is_waited_for(path: Path) -> None:
    entered = threading.Event()

    def wait() -> None:
        with FileLock(path).hold(60):
            entered.set()

    with holder(path) as process:
        with pytest.raises(TimeoutError, match="another process"), FileLock(path).hold(0):
            pass
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.is_set()
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert entered.wait(60)
        waiting.join(60)


def test_killed_process_holds_nothing(path: Path) -> None:
    with holder(path) as process:
        process.kill()
        process.wait(60)
        with FileLock(path).hold(60):
            pass


def test_threads_of_one_process_enter_together_and_the_last_one_releases(path: Path) -> None:
    lock = FileLock(path)
    one, other = lock.hold(0), lock.hold(0)
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    with pytest.raises(TimeoutError), FileLock(path).hold(0):
        pass
    leaving = threading.Thread(target=other.__exit__, args=(None, None, None))
    leaving.start()
    leaving.join(60)
    with FileLock(path).hold(0):
        pass


def test_forked_child_does_not_keep_the_lock(path: Path) -> None:
    lock = FileLock(path)
    read, write = os.pipe()
    with lock.hold(0):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)  # until the parent has looked
            os._exit(0)
    os.close(read)
    try:
        eventually_sync(lambda: _is_free(path))
    finally:
        os.close(write)
        os.waitpid(child, 0)


def _is_free(path: Path) -> bool:
    try:
        with FileLock(path).hold(0):
            return True
    except TimeoutError:
        return False


def test_lock_that_can_not_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), FileLock(tmp_path / "missing" / "lock").hold(60):
        pass
    target = tmp_path / "target"
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="link"), FileLock(tmp_path / "link").hold(60):
        pass
    assert not target.exists()
