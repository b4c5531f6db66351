"""The event log as the readers of one process see it: one poll for all of them, and the newest events in memory."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.events.log import MAX_EVENTS_READ, EventHead, EventLog, StoredEvent
from token_service.errors import TokenServiceError

POLL_INTERVAL: Final = 0.5
"""Seconds between two looks at the outbox."""
_PAUSE: Final = 0.25
"""Seconds between two looks of a process that writes all the time, so that its events share a move."""
_CURRENT: Final = 2.0
"""Seconds that a look counts as what the log has now."""
_HELD: Final = 1000
_HELD_SECONDS: Final = 30.0
"""Seconds that an event stays in memory, so that readers at the end of the log share one read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The events after a place."""

    events: Sequence[StoredEvent]
    reached: int
    """The log holds no other event up to this sequence."""
    lost: bool = False
    """Whether events after the place were deleted, so that the reader misses them."""


class EventFeed:
    """Moves the outbox into the log and wakes the readers. `run` must run on every node, so that no node is needed.

    The log is moved by the first node that sees a row. A node that stops or is killed leaves nothing half done: each
    move is one transaction.
    """

    def __init__(self, log: EventLog, clock: Clock, *, interval: float = POLL_INTERVAL) -> None:
        self._log = log
        self._clock = clock
        self._interval = interval
        self._head: EventHead | None = None
        self._held: Final[deque[tuple[float, StoredEvent]]] = deque(maxlen=_HELD)
        self._looked_at = -inf
        self._readers = 0
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self.resets = 0
        """How often the log was found shorter than before, or another one: the database was restored."""

    @property
    def known(self) -> EventHead | None:
        """The head at the last look; None before the first one."""
        return self._head

    def is_end(self, sequence: int) -> bool:
        """Tell whether no event after `sequence` was written up to the last look, and that look is recent."""
        head = self._head
        is_current = self._clock.monotonic() - self._looked_at <= _CURRENT
        return is_current and head is not None and head.sequence <= sequence and not head.waiting

    def wake(self) -> None:
        """Look soon, because this process has just written an event."""
        self._wanted.set()

    async def head(self) -> EventHead:
        """Read the ends of the log. Raises `StoreUnavailableError`."""
        return await self._log.head()

    async def read(self, after: int, limit: int = MAX_EVENTS_READ) -> Sequence[StoredEvent]:
        """Return up to `limit` events with a sequence above `after`, in order. Raises `StoreUnavailableError`."""
        if self._head is not None and self._head.sequence <= after:
            return ()
        held = self._held
        if held and held[0][1].sequence <= after + 1 <= held[-1][1].sequence:
            first = after + 1 - held[0][1].sequence
            return [held[place][1] for place in range(first, min(first + limit, len(held)))]
        return await self._log.read(after, limit)

    async def next(self, after: int, limit: int = MAX_EVENTS_READ) -> EventBatch:
        """Return the events after a place, and how far the log was read. Raises `StoreUnavailableError`."""
        known = self._head
        events = await self.read(after, limit)
        if events and events[0].sequence == after + 1:
            return EventBatch(events, events[-1].sequence)
        if not events and (known is None or known.sequence <= after):
            return EventBatch((), after)
        # Events were deleted, or the numbers have jumped.
        head = await self._log.head()
        if not events:
            events = await self._log.read(
                after, limit
            )  # has every event up to the head, which was read before
        reached = events[-1].sequence if events else max(after, head.sequence)
        return EventBatch(events, reached, lost=head.purged > after)

    async def wait(self, after: int, timeout: float) -> None:
        """Wait until the head of the log is above `after` or the log was reset, for at most `timeout` seconds."""
        if self._head is not None and self._head.sequence > after:
            return
        self._readers += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._moved.wait()
        finally:
            self._readers -= 1

    async def run(self) -> None:
        """Move the outbox and read the head every half second until cancelled."""
        failing = False
        while True:
            self._wanted.clear()
            try:
                await self.step()
                failing = False
            except TokenServiceError as error:
                if not failing:
                    logger.warning("the event log can't be read, trying again: %s", error.message)
                failing = True
            await asyncio.sleep(_PAUSE)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval - _PAUSE):
                    await self._wanted.wait()

    async def step(self) -> None:
        """Wake the readers for what other nodes moved, and move what the outbox has. Raises `StoreUnavailableError`."""
        head = await self._log.head()
        await self._take(head)
        moved = MAX_EVENTS_READ if head.waiting else 0
        while moved == MAX_EVENTS_READ:  # events written meanwhile wait for the next look
            moved = await self._log.sequence(MAX_EVENTS_READ)
            await self._take(await self._log.head())

    async def _take(self, head: EventHead) -> None:
        """Note a head, hold its new events if a reader waits for them, and wake the readers."""
        before, self._head = self._head, head
        now = self._looked_at = self._clock.monotonic()
        held = self._held
        follows = before is None or (before.epoch == head.epoch and before.sequence <= head.sequence)
        if not follows:  # the database was restored: the numbers are given out again
            held.clear()
            self.resets += 1
        while held and held[0][0] < now - _HELD_SECONDS:
            held.popleft()
        if before is not None and follows and head.sequence == before.sequence:
            return
        try:
            if (
                self._readers
                and before is not None
                and follows
                and head.sequence - before.sequence <= MAX_EVENTS_READ
            ):
                with suppress(TokenServiceError):  # the readers read it themselves
                    self._hold(await self._log.read(before.sequence, MAX_EVENTS_READ), now)
        finally:
            self._moved.set()  # wakes current waiters, not later ones
            self._moved.clear()

    def _hold(self, events: Sequence[StoredEvent], now: float) -> None:
        """Keep events that follow those in memory without a gap."""
        held = self._held
        for event in events:
            if held and event.sequence != held[-1][1].sequence + 1:
                if event.sequence <= held[-1][1].sequence:
                    continue
                held.clear()
            held.append((now, event))
