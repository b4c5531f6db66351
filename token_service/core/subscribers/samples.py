"""Samples of the cursors of subscribers: by when each had which entry of the revocation log."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from token_service.clock import Clock
from token_service.core.subscribers.registry import Subscribers
from token_service.errors import TokenServiceError

SAMPLE_INTERVAL: Final = 5.0
"""Seconds between two samples of a subscriber."""
SAMPLES_KEPT: Final = 7 * 86_400.0
_MAX_SAMPLES: Final = 1000
"""Samples that a node writes at once. The others follow with the next samples."""
_PURGE_INTERVAL: Final = 3600.0
_BATCH: Final = 5000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CursorSample:
    """A subscriber that has applied a log up to a sequence at a time, in seconds since the Unix epoch."""

    time: float
    subscriber: str
    epoch: str
    sequence: int


class SampleStore(Protocol):
    """The samples of all nodes."""

    async def add(self, samples: Sequence[CursorSample]) -> None:
        """Store samples. A second sample of a subscriber at the same time is ignored."""
        ...

    async def first(self, epoch: str, sequence: int, since: float, until: float) -> Sequence[CursorSample]:
        """Return the first sample of each subscriber that has an entry, between two times, by name."""
        ...

    async def purge(self, before: float, limit: int) -> int:
        """Delete up to `limit` samples older than `before`; return how many."""
        ...


class CursorSampler:
    """Samples the subscribers of this node whose cursor has moved."""

    def __init__(self, store: SampleStore, subscribers: Subscribers, clock: Clock) -> None:
        self._store = store
        self._subscribers = subscribers
        self._clock = clock
        self._sampled: dict[str, tuple[str, int]] = {}
        self._purged_at = -inf

    async def run(self) -> None:
        """Sample every `SAMPLE_INTERVAL` seconds until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            try:
                await self.sample()
                failing = False
            except TokenServiceError as error:
                if not failing:
                    logger.warning("cursors of subscribers can't be sampled, trying again: %s", error.message)
                failing = True

    async def sample(self) -> None:
        """Write a sample of each subscriber whose cursor has moved, and delete old samples once an hour."""
        applied, epoch = self._subscribers.applied, self._subscribers.epoch
        self._sampled = {name: at for name, at in self._sampled.items() if name in applied}
        moved = (
            (name, (epoch, sequence))
            for name, sequence in applied.items()
            if sequence and self._sampled.get(name) != (epoch, sequence)
        )
        chosen = dict(itertools.islice(moved, _MAX_SAMPLES))
        if chosen:
            now = self._clock.now()
            await self._store.add([CursorSample(now, name, *at) for name, at in chosen.items()])
            self._sampled.update(chosen)
        if self._clock.monotonic() - self._purged_at >= _PURGE_INTERVAL:
            while await self._store.purge(self._clock.now() - SAMPLES_KEPT, _BATCH) == _BATCH:
                pass
            self._purged_at = self._clock.monotonic()
