"""A lock between the processes of tests, for what one of them fetches for all."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.deadline import DeadlineExceededError, eventually_sync

_PATIENCE = 600.0
"""Seconds until another process has fetched it. Its downloads have shorter limits."""


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while `what` is fetched. Raises `RuntimeError` if another process holds it for too long."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:

        def is_mine() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            eventually_sync(is_mine, timeout=_PATIENCE, interval=0.1)
        except DeadlineExceededError:
            raise RuntimeError(
                f"another process has been fetching {what} for {_PATIENCE:g} s; it holds {path}"
            ) from None
        yield
