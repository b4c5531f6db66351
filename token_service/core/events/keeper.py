"""Keeps the stored audit trail and the event log: checkpoints and retention, on the node that has the lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.events.log import EventLog
from token_service.core.events.store import AuditStore
from token_service.core.leases import Lease
from token_service.errors import TokenServiceError

_DAY: Final = 86_400.0
_BATCH: Final = 1000
_PAUSE: Final = 0.05
"""Seconds between two batches, so that statements of calls run first."""
_PRUNE_INTERVAL: Final = 3600.0
CHECKPOINTS_KEPT: Final = 7 * _DAY
"""Seconds that checkpoints before a full one are kept."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeeperRules:
    """Times in seconds."""

    interval: float = 60.0
    """Between two checkpoints."""
    retention: float = 400 * _DAY
    """Age at which rows of the trail are deleted."""
    event_retention: float = 7 * _DAY
    """Age at which events are deleted from the event log. Their rows of the trail stay."""


class AuditKeeper:
    """Writes checkpoints and deletes old rows."""

    def __init__(
        self, store: AuditStore, events: EventLog, lease: Lease, clock: Clock, rules: KeeperRules
    ) -> None:
        self._store = store
        self._events = events
        self._lease = lease
        self._clock = clock
        self.rules = rules
        """May be replaced at any time."""
        self._pruned_at = -inf
        self._full_at = -inf
        self.ran_at: float | None = None
        """The time of the last complete run of this node, in seconds since the Unix epoch; None: none yet."""

    async def run(self) -> None:
        """Keep the trail every `interval` seconds until cancelled."""
        failing = False
        try:
            while True:
                try:
                    await self.keep()
                    failing = False
                except TokenServiceError as error:
                    if not failing:
                        logger.warning("the audit trail can't be kept, trying again: %s", error.message)
                    failing = True
                await asyncio.sleep(self.rules.interval)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def keep(self) -> None:
        """Write a checkpoint, a full one once a day; delete old rows once an hour. Nothing without the lease."""
        if await self._lead():
            await self._keep()
            self.ran_at = self._clock.now()

    async def _keep(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        full = monotonic - self._full_at >= _DAY
        if await self._store.checkpoint(now, full=full) is not None and full:
            self._full_at = monotonic
        if monotonic - self._pruned_at < _PRUNE_INTERVAL:
            return
        await self._batches(
            lambda: self._store.prune(now - self.rules.retention, now - CHECKPOINTS_KEPT, now, _BATCH)
        )
        await self._batches(lambda: self._events.purge(now - self.rules.event_retention, _BATCH))
        self._pruned_at = monotonic

    async def _batches(self, delete: Callable[[], Awaitable[int]]) -> None:
        while await self._lead():
            if await delete() < _BATCH:
                break
            await asyncio.sleep(_PAUSE)

    async def _lead(self) -> bool:
        # The lease is renewed before each batch and lasts much longer than one.
        return await self._lease.acquire(max(30.0, 2 * self.rules.interval))
