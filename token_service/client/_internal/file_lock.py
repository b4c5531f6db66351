"""A lock between processes, on a file of its own (flock). The system releases it when its process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from token_service.client._internal.fork import ended, started

_PAUSE: Final = 0.02


class FileLock:
    """Lock for the threads of one process together: further ones enter while it is held. Any thread may release it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gate = threading.Lock()
        self._depth = 0
        self._descriptor = -1

    @contextmanager
    def hold(self, timeout: float) -> Iterator[None]:
        """Hold the lock. Blocks until other processes have released it.

        Raises `TimeoutError` after `timeout` seconds, and `OSError` if the file can't be opened.
        """
        deadline = time.monotonic() + timeout
        if not self._gate.acquire(timeout=max(0.0, timeout)):
            raise self._overdue()
        try:
            if self._depth == 0:
                self._lock(deadline)
            self._depth += 1
        finally:
            self._gate.release()
        try:
            yield
        finally:
            with self._gate:
                self._depth = max(0, self._depth - 1)  # 0 already in a child that was forked inside
                if self._depth == 0:
                    self._unlock()

    def abandon(self) -> None:
        """Forget the lock in a forked child: it belongs to the parent."""
        # Closing the copy of the descriptor releases nothing, but the lock would outlive the parent as long as it is open.
        descriptor, self._descriptor, self._depth = self._descriptor, -1, 0
        self._gate = threading.Lock()
        if descriptor >= 0:
            os.close(descriptor)

    def _lock(self, deadline: float) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise self._overdue() from None
                    time.sleep(min(_PAUSE, left))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        started(self)

    def _unlock(self) -> None:
        if self._descriptor < 0:
            return  # as above
        ended(self)
        descriptor, self._descriptor = self._descriptor, -1
        # Explicitly: closing alone would not release it while a forked child has a copy of the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)

    def _overdue(self) -> TimeoutError:
        return TimeoutError(errno.ETIMEDOUT, "another process holds the lock", str(self._path))
