"""Many ask for the same thing at once, one gets it for all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """For one event loop. A caller that is cancelled leaves the others their result."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def do(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """The result of `work`, or of the call for the same key that is under way."""
        return asyncio.shield(self.begin(key, work))

    def begin(self, key: K, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """As `do`, for a caller that does not wait."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work())
            task.add_done_callback(lambda done: self._done(key, done))
        return task

    async def drain(self) -> None:
        """Wait for what is under way."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    async def close(self) -> None:
        """Cancel what is under way."""
        for task in tuple(self._tasks.values()):
            task.cancel()
        await self.drain()

    def _done(self, key: K, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, even if every caller has gone


class ThreadSingleFlight(Generic[K, T]):
    """The same for threads: the first caller does the work in its own thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[K, Future[T]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def do(self, key: K, work: Callable[[], T]) -> T:
        """The result of `work`, or of the call for the same key that is under way."""
        return cast("T", self.do_if(lambda: True, key, work))

    def do_if(self, may_begin: Callable[[], bool], key: K, work: Callable[[], T]) -> T | None:
        """As `do`; None if nothing is under way and `may_begin` says no.

        No thread gets between the question and the beginning.
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
