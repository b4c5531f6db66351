"""Group commit: calls that arrive during a commit share the next commit.

A single call is flushed almost at once: only after some rounds of the event loop in which no further call arrived. gRPC
hands over one call in each round, so without these rounds a busy node would commit nearly each call alone: RefreshToken had
two thirds of the rate. With several connections, calls that arrive during a commit wait a moment for more
calls before they use the next connection, because a commit costs as much as twenty items. Each caller gets its result
after the commit of its own item.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

from token_service.errors import OverloadedError, StoreUnavailableError
from token_service.stores.sql.engine.errors import RETRY_AFTER, unavailable

QUIET_ROUNDS: Final = 10
"""Rounds of the event loop without a new item after which a batch is complete.

A call takes some rounds from its acceptance to the queue. An idle loop takes some 10 us for each.
"""
_LONGEST_GATHERING: Final = 0.01
"""Seconds after which a batch is flushed although calls still arrive: the rounds of a busy loop may be long."""

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_log: Final = logging.getLogger(__name__)


class GroupCommitter(Generic[ItemT, ResultT]):
    """A queue with one task per flush function. A task takes a batch from the queue and flushes it.

    A flush function gets a batch and returns, in the same order, a result or an exception for each item. If one of
    the exceptions is a `StoreUnavailableError`, all queued items fail with it too, instead of waiting for one timeout
    after the other. If a caller is cancelled before its item is taken, the item is dropped. After that, the item is
    flushed and its result is dropped.
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
        """Create a queue. During a flush, another task starts once `company` items wait, or after `patience` seconds."""
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
        self._cancelled = False  # whether the queue may hold items of cancelled callers

    def __len__(self) -> int:
        """Return the number of items that wait for a flush."""
        return len(self._queue)

    def open(self) -> None:
        """Start the tasks in the running loop."""
        self._closed = False
        self._tasks = [
            asyncio.create_task(self._work(flush), name=f"group-commit-{n}")
            for n, flush in enumerate(self._flushes)
        ]

    async def aclose(self) -> None:
        """Refuse new items, flush the queued items, and end the tasks."""
        self._closed = True
        while self._idle:
            self._wake()
        try:
            await asyncio.gather(*self._tasks)
        finally:  # items are left only if this method was cancelled
            self._tasks = []
            self._fail(self._queue)
            self._queue.clear()

    async def __call__(self, item: ItemT) -> ResultT:
        """Queue an item, and return the result of its flush.

        Raises the exception of the flush, `OverloadedError` if the queue is full, and `StoreUnavailableError` if the
        queue is closed.
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
            await self._gather()
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
            except Exception:  # noqa: BLE001 - a defect of a flush function must not end the task that all callers wait for
                _log.exception(
                    "a batch of %d database calls failed; this is a defect, please report it", len(batch)
                )
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

    async def _gather(self) -> None:
        """Let further items arrive, up to `company`, until some rounds of the loop brought none."""
        quiet, queue, loop = 0, self._queue, asyncio.get_running_loop()
        until = loop.time() + _LONGEST_GATHERING
        while 0 < (seen := len(queue)) < self._company and quiet < QUIET_ROUNDS and not self._closed:
            await asyncio.sleep(0)
            if loop.time() > until:
                break
            quiet = quiet + 1 if len(queue) <= seen else 0

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
            if not entry[1].done():  # otherwise its caller was cancelled
                batch.append(entry)
        return batch

    @staticmethod
    def _fail(entries: Iterable[tuple[ItemT, asyncio.Future[ResultT]]]) -> None:
        for _, future in entries:
            if not future.done():
                future.set_exception(unavailable())
