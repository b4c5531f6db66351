"""Rows of events that have no transaction of their own, written in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from msgspec import structs

from token_service.clock import Clock
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.errors import TokenServiceError

MAX_QUEUED: Final = 10_000
"""Events that wait for the database. Further events are lost and counted."""
_BATCH: Final = 256
_HOLD: Final = 0.25
"""Seconds that an event waits for further events."""
_RETRY: Final = 1.0
_LAST_CHANCE: Final = 5.0
"""Seconds for the last batch when the node stops."""
_ACTOR: Final = Actor.system("audit")

logger = logging.getLogger(__name__)


class RowQueue:
    """A bounded queue of events. `run` writes them. `kill -9` loses the events of the last 0.25 seconds."""

    def __init__(self, append: Callable[[Sequence[AuditEvent]], Awaitable[None]], clock: Clock) -> None:
        """`append` writes the rows of a batch in one transaction."""
        self._append = append
        self._clock = clock
        self._queue: Final[deque[AuditEvent]] = deque()
        self._filled = asyncio.Event()
        self._lost = 0
        self.lost = 0
        """Events that were lost since the start."""
        self.is_failing = False
        """Whether the last attempt to write events failed."""

    def __len__(self) -> int:
        """Return the number of queued events."""
        return len(self._queue)

    def put(self, event: AuditEvent) -> None:
        """Queue an event with the present time. Counts it as lost if the queue is full."""
        if len(self._queue) >= MAX_QUEUED:
            self._lost += 1
            self.lost += 1
            return
        self._queue.append(structs.replace(event, time=self._clock.now()))
        self._filled.set()

    async def run(self) -> None:
        """Write batches until cancelled; then write the queued events, for at most 5 seconds."""
        try:
            while True:
                await self._filled.wait()
                if len(self._queue) < _BATCH:
                    await asyncio.sleep(_HOLD)
                try:
                    await self.flush()
                    self.is_failing = False
                except TokenServiceError as error:
                    if not self.is_failing:
                        logger.warning("audit events can't be written, trying again: %s", error.message)
                    self.is_failing = True
                    await asyncio.sleep(_RETRY)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(_LAST_CHANCE):
                    await self.flush()
            if self._queue:
                logger.error("%d audit events were not written to the database", len(self._queue))

    async def flush(self) -> None:
        """Write all queued events. Raises `StoreUnavailableError` and keeps those that are not written."""
        while self._queue or self._lost:
            batch = [self._queue[place] for place in range(min(_BATCH, len(self._queue)))]
            lost = self._lost
            if lost:
                batch.append(
                    AuditEvent(
                        action=Action.AUDIT_EVENTS_LOST,
                        actor=_ACTOR,
                        target=Target("audit"),
                        fields={"count": lost},
                    )
                )
            await self._append(batch)
            for _ in range(len(batch) - bool(lost)):
                self._queue.popleft()
            self._lost -= lost
        self._filled.clear()
