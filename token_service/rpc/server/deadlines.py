"""Deadlines enforced by one periodic sweep, which is far cheaper than a timer for each call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from token_service.errors import DeadlineExceededError

_T = TypeVar("_T")


class _Work:
    """A task with a deadline."""

    __slots__ = ("overdue", "task", "until")

    def __init__(self, task: asyncio.Task[Any] | None, until: float) -> None:
        self.task = task
        self.until = until
        self.overdue = False


class Deadlines:
    """Work with a time limit. For one event loop."""

    def __init__(self) -> None:
        self._work: set[_Work] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """Return the number of unfinished pieces of work."""
        return len(self._work)

    async def within(self, seconds: float, awaitable: Awaitable[_T]) -> _T:
        """Return the result of `awaitable`. Raises `DeadlineExceededError` if a sweep finds it overdue."""
        # To ask for the running loop is a system call (`getpid`), which each call would make several times.
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        work = _Work(asyncio.current_task(loop), loop.time() + seconds)
        self._work.add(work)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if work.overdue and work.task is not None and work.task.uncancel() == 0:
                raise DeadlineExceededError from None
            raise
        finally:
            self._work.discard(work)

    def sweep(self) -> None:
        """Cancel overdue work. Call it about once a second."""
        now = asyncio.get_running_loop().time()
        for work in self._work:
            if work.task is not None and now > work.until and not work.overdue:
                work.overdue = True
                work.task.cancel()
