"""Single flight: concurrent callers with the same key share one call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Single flight for one event loop. Cancelling one caller does not cancel the shared call."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def do(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """Return the result of `work`, or of the call in progress for the same key."""
        return asyncio.shield(self.begin(key, work))

    def begin(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Begin `work` as `do` does, without waiting."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._done(key, done))
        return task

    async def drain(self) -> None:
        """Wait for the calls in progress."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    async def close(self) -> None:
        """Cancel the calls in progress."""
        for task in tuple(self._tasks.values()):
            task.cancel()
        await self.drain()

    def _done(self, key: K, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # marks the error as seen, even if no caller waits any longer


class ThreadSingleFlight(Generic[K, T]):
    """Single flight for threads: the first caller does the work in its own thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def do(self, key: K, work: Callable[[], T]) -> T:
        """Return the result of `work`, or of the call in progress for the same key."""
        return cast("T", self.do_if(lambda: True, key, work))

    def do_if(self, may_begin: Callable[[], bool], key: K, work: Callable[[], T]) -> T | None:
        """Work as `do` does; return None if no call is in progress and `may_begin` returns False.

        The check and the begin of the call are atomic.
        """
        with self._lock:
            flight = self._flights.get(key)
            mine = flight is None
            if flight is None:
                if not may_begin():
                    return None
                flight = self._flights[key] = Future()
        if not mine:
            return flight.result()
        try:
            result = work()
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            with self._lock:
                del self._flights[key]
