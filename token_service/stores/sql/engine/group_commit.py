"""Group commit: calls that arrive while a commit is under way share the next one.

A lone call goes at once. With several connections, what comes while one commits waits a moment for company
before it takes the next: a commit costs as much as twenty items. Each caller is answered after the commit its
own item was part of.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from token_service.errors import OverloadedError, StoreUnavailableError
from token_service.stores.sql.engine.errors import RETRY_AFTER, unavailable

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_log: Final = logging.getLogger(__name__)


class GroupCommitter(Generic[ItemT, ResultT]):
    """A queue and, for each flush function, one task that takes what is queued and flushes it.

    A flush function gets a batch and returns, in the same order, a result or an exception for each of its
    items. If it says `StoreUnavailableError`, everything queued gets that, too, rather than to wait for one
    timeout after the other. A caller that is cancelled before its item was taken takes the item with it;
    after that the item is flushed and the result dropped.
    """

    def __init__(
        self,
        flushes: Sequence[Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]]],
        *,
        max_batch: int,
        max_queue: int,
        company: int = 1,
        patience: float = 0.0,
    ) -> None:
        """While one task flushes, another one begins once `company` items wait or after `patience` seconds."""
        self._flushes: Final = flushes
        self._max_batch: Final = max_batch
        self._max_queue: Final = max_queue
        self._company: Final = company
        self._patience: Final = patience
        self._overdue: asyncio.TimerHandle | None = None
        self._queue: Final[deque[tuple[ItemT, asyncio.Future[ResultT]]]] = deque()
        self._idle: Final[deque[asyncio.Future[None]]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = True
        self._cancelled = False  # whether an item in the queue may be nobody's any more

    def open(self) -> None:
        """Start the tasks in the running loop."""
        self._closed = False
        self._tasks = [
            asyncio.create_task(self._work(flush), name=f"group-commit-{n}")
            for n, flush in enumerate(self._flushes)
        ]

    async def aclose(self) -> None:
        """Refuse new items, flush those that are queued, and end the tasks."""
        self._closed = True
        while self._idle:
            self._wake()
        try:
            await asyncio.gather(*self._tasks)
        finally:  # with something left only if this was cancelled
            self._tasks = []
            self._fail(self._queue)
            self._queue.clear()

    async def __call__(self, item: ItemT) -> ResultT:
        """Have an item flushed.

        Raises what the flush says, `OverloadedError` if too many wait, `StoreUnavailableError` unless open.
        """
        if self._closed:
            raise unavailable()
        if len(self._queue) >= self._max_queue:
            self._forget_cancelled()
            if len(self._queue) >= self._max_queue:
                raise OverloadedError("too many calls are waiting for the database", retry_after=RETRY_AFTER)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        self._queue.append((item, future))
        if self._idle:
            if len(self._idle) == len(self._tasks) or len(self._queue) >= self._company:
                self._wake()
            elif self._overdue is None:
                self._overdue = loop.call_later(self._patience, self._lose_patience)
        try:
            return await future
        except asyncio.CancelledError:
            self._cancelled = True
            raise

    def _lose_patience(self) -> None:
        self._overdue = None
        if self._queue and self._idle:
            self._wake()

    def _wake(self) -> None:
        waiter = self._idle.popleft()
        if not waiter.done():
            waiter.set_result(None)

    async def _work(
        self, flush: Callable[[Sequence[ItemT]], Awaitable[Sequence[ResultT | Exception]]]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = self._take()
            if not batch:
                if self._closed:
                    return
                waiter = loop.create_future()
                self._idle.append(waiter)
                await waiter
                continue
            try:
                results = await flush([item for item, _ in batch])
                answers = list(zip(batch, results, strict=True))
            except asyncio.CancelledError:
                self._fail(batch)
                raise
            except Exception:  # noqa: BLE001 - a defect of a flush function must not end the task that everyone waits for
                _log.exception("a batch of %d failed", len(batch))
                self._fail(batch)
                continue
            lost = False
            for (_, future), result in answers:
                if isinstance(result, Exception):
                    lost = lost or isinstance(result, StoreUnavailableError)
                    if not future.done():
                        future.set_exception(result)
                elif not future.done():
                    future.set_result(result)
            if lost:
                self._fail(self._queue)
                self._queue.clear()

    def _forget_cancelled(self) -> None:
        if self._cancelled:
            self._cancelled = False
            waiting = [entry for entry in self._queue if not entry[1].done()]
            self._queue.clear()
            self._queue.extend(waiting)

    def _take(self) -> list[tuple[ItemT, asyncio.Future[ResultT]]]:
        batch: list[tuple[ItemT, asyncio.Future[ResultT]]] = []
        queue = self._queue
        while queue and len(batch) < self._max_batch:
            entry = queue.popleft()
            if not entry[1].done():  # else its caller was cancelled
                batch.append(entry)
        return batch

    @staticmethod
    def _fail(entries: Iterable[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        for _, future in entries:
            if not future.done():
                future.set_exception(unavailable())
