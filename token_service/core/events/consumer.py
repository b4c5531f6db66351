"""Consumers of the event log: each handles every event at least once, in order, on one node at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

from token_service.core.events.feed import EventFeed
from token_service.core.events.log import EventLog, StoredEvent
from token_service.core.leases import Lease
from token_service.errors import TokenServiceError

Handle: TypeAlias = Callable[[Sequence[StoredEvent]], Awaitable[None]]
"""Handles events. Raises a `TokenServiceError` if they must be handled again, all of them. Must be idempotent."""

LEASE_TIME: Final = 15.0
"""Seconds after which another node takes over from one that was killed."""
_IDLE: Final = 5.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0

logger = logging.getLogger(__name__)


class EventConsumer:
    """Hands the events of the log to one handler, and notes the place that it has reached.

    A crash between the handler and the note repeats the last batch, so a handler must recognize an event that it has
    handled: `StoredEvent.id` is the same each time. The place moves by compare-and-set: a process that was stopped and
    goes on after another one took over can't move it back.
    """

    def __init__(
        self,
        name: str,
        log: EventLog,
        feed: EventFeed,
        lease: Lease,
        handle: Handle,
        *,
        batch: int = 100,
        from_earliest: bool = False,
    ) -> None:
        """`from_earliest`: a consumer that is new begins with the oldest event instead of the next one."""
        self.name: Final = name
        self._log = log
        self._feed = feed
        self._lease = lease
        self._handle = handle
        self._batch = batch
        self._from_earliest = from_earliest
        self.problem: str | None = None
        """The reason why the last batch failed; None: it did not fail."""

    async def run(self) -> None:
        """Handle events until cancelled, while this process has the lease."""
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    if not await self._lease.acquire(LEASE_TIME):
                        await asyncio.sleep(_IDLE)
                        continue
                    await self.step(_IDLE)
                    self.problem, pause = None, _FIRST_PAUSE
                except Exception as error:  # noqa: BLE001  # a faulty handler must not end the node
                    self._note(error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def step(self, patience: float) -> int:
        """Handle one batch, after waiting up to `patience` seconds for an event; return the number of events.

        A batch may have no events: the numbers of the log have jumped. Raises what the handler raises, and
        `StoreUnavailableError`.
        """
        place = await self._place()
        batch = await self._feed.next(place, self._batch)
        if batch.reached == place:
            await self._feed.wait(place, patience)
            batch = await self._feed.next(place, self._batch)
        if batch.reached == place:
            return 0
        if batch.events:
            async with self._renewing():
                await self._handle(batch.events)
        if await self._log.advance(self.name, place, batch.reached) and batch.lost:
            logger.error(
                "consumer %s misses events, which were deleted after their retention: raise "
                "TOKEN_SERVICE_EVENT_RETENTION above the longest outage",
                self.name,
            )
        return len(batch.events)

    def _note(self, error: Exception) -> None:
        """Note and log the reason of a failure, once for the same reason."""
        expected = isinstance(error, TokenServiceError)
        problem = (
            error.message if isinstance(error, TokenServiceError) else f"unexpected {type(error).__name__}"
        )
        if problem != self.problem:
            level = logging.WARNING if expected else logging.ERROR
            logger.log(
                level,
                "consumer %s can't handle events, trying again: %s",
                self.name,
                problem,
                exc_info=None if expected else error,
            )
        self.problem = problem

    async def _place(self) -> int:
        """Return the noted place; note one if the consumer is new."""
        place = await self._log.position(self.name)
        if place is None:
            head = await self._feed.head()
            place = await self._log.start(self.name, head.purged if self._from_earliest else head.sequence)
        return place

    @asynccontextmanager
    async def _renewing(self) -> AsyncIterator[None]:
        """Renew the lease while a batch is handled."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_TIME / 3)
                with suppress(TokenServiceError):
                    await self._lease.acquire(LEASE_TIME)

        task = asyncio.create_task(renew(), name=f"renew-lease-of-{self.name}")
        try:
            yield
        finally:
            task.cancel()
            # Awaiting the task itself would hide a cancellation of this one.
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                await asyncio.wait((task,))
                raise
