"""Threads that sign for an event loop.

The overhead of `concurrent.futures` per call (a future with its own lock, two callbacks and a wake-up of the loop) is a
sixth of an RSA signature. Here a call is an entry in a queue, and one wake-up of the loop delivers all finished
results.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeAlias

from token_service.errors import SigningUnavailableError

Sign: TypeAlias = Callable[[bytes], bytes]
_Task: TypeAlias = tuple[asyncio.Future[bytes], Sign, bytes]


class SigningThreads:
    """A fixed number of threads for one event loop. They start on first use."""

    def __init__(self, count: int) -> None:
        self._count: Final = count
        self._tasks: Final[SimpleQueue[_Task | None]] = SimpleQueue()
        self._results: Final[deque[tuple[asyncio.Future[bytes], bytes | Exception]]] = deque()
        self._delivering = False
        self._started = False
        self._closed = False

    def sign(self, sign: Sign, data: bytes) -> asyncio.Future[bytes]:
        """Return a future of `sign(data)`, called in a thread. Raises `SigningUnavailableError` after `close`."""
        if self._closed:
            raise SigningUnavailableError
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not self._started:
            self._started = True
            for number in range(self._count):
                threading.Thread(target=self._work, name=f"sign-{number}", daemon=True).start()
        self._tasks.put((future, sign, data))
        return future

    def close(self) -> None:
        """End the threads after the queued signatures."""
        self._closed = True
        if self._started:
            for _ in range(self._count):
                self._tasks.put(None)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, sign, data = task
            try:
                result: bytes | Exception = sign(data)
            except Exception as error:  # noqa: BLE001 - the caller gets it
                result = error
            self._results.append((future, result))
            # The flag stays set until `_deliver` begins, and `_deliver` then also finds this result.
            if not self._delivering:
                self._delivering = True
                with contextlib.suppress(RuntimeError):  # the loop is closed, so no caller waits
                    future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._delivering = False
        results = self._results
        while results:
            future, result = results.popleft()
            if future.done():  # cancelled
                continue
            if isinstance(result, bytes):
                future.set_result(result)
            else:
                future.set_exception(result)
