"""Keeps the stored audit trail: checkpoints, retention, and the purge of the outbox, on the node that has the lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.clock import Clock
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
OUTBOX_KEPT: Final = 7 * _DAY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeeperRules:
    """Times in seconds."""

    interval: float = 60.0
    """Between two checkpoints."""
    retention: float = 400 * _DAY
    """Age at which events are deleted."""


class AuditKeeper:
    """Writes checkpoints and deletes old rows."""

    def __init__(self, store: AuditStore, lease: Lease, clock: Clock, rules: KeeperRules) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._rules = rules
        self._pruned_at = -inf
        self._full_at = -inf

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
                await asyncio.sleep(self._rules.interval)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def keep(self) -> None:
        """Write a checkpoint, a full one once a day; delete old rows once an hour. Nothing without the lease."""
        if not await self._lead():
            return
        now, monotonic = self._clock.now(), self._clock.monotonic()
        full = monotonic - self._full_at >= _DAY
        if await self._store.checkpoint(now, full=full) is not None and full:
            self._full_at = monotonic
        if monotonic - self._pruned_at < _PRUNE_INTERVAL:
            return
        await self._batches(
            lambda: self._store.prune(now - self._rules.retention, now - CHECKPOINTS_KEPT, now, _BATCH)
        )
        await self._batches(lambda: self._store.purge_outbox(now - OUTBOX_KEPT, _BATCH))
        self._pruned_at = monotonic

    async def _batches(self, delete: Callable[[], Awaitable[int]]) -> None:
        while await self._lead():
            if await delete() < _BATCH:
                break
            await asyncio.sleep(_PAUSE)

    async def _lead(self) -> bool:
        # The lease is renewed before each batch and lasts much longer than one.
        return await self._lease.acquire(max(30.0, 2 * self._rules.interval))
