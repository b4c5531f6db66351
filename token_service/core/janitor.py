"""Purges what nobody needs any more, in small batches, on one node at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from token_service.clock import Clock
from token_service.core.policy import MAX_SESSION_TTL
from token_service.core.ports import LeaseStore, RevocationLog, SessionStore
from token_service.core.steady_time import SteadyTime
from token_service.errors import TokenServiceError

_LEASE: Final = "janitor"
_BATCH: Final = 500
_PAUSE: Final = 0.05
"""Seconds between two batches, so that callers' statements go first."""
_LOG_MARGIN: Final = 60.0
"""Seconds an entry of the log is kept beyond its expiry, for clocks that differ."""

logger = logging.getLogger(__name__)


class Janitor:
    """Purges ended sessions, expired entries of the log and floors no session is older than."""

    def __init__(
        self,
        sessions: SessionStore,
        log: RevocationLog,
        leases: LeaseStore,
        clock: Clock,
        *,
        node_id: str,
        interval: float,
        retention: float,
    ) -> None:
        self._sessions = sessions
        self._log = log
        self._leases = leases
        self._time = SteadyTime(clock)
        self._node_id = node_id
        self._interval = interval
        self._retention = retention

    async def run(self) -> None:
        """Purge every `interval` seconds until cancelled, if this node has the lease."""
        failing = False
        try:
            while True:
                try:
                    await self.sweep()
                    failing = False
                except TokenServiceError as error:
                    if not failing:
                        logger.warning("nothing was purged: %s", error.message)
                    failing = True
                await asyncio.sleep(self._interval)
        finally:
            try:
                async with asyncio.timeout(1):
                    await self._leases.release(_LEASE, self._node_id)
            except (TokenServiceError, TimeoutError):
                pass

    async def sweep(self) -> int:
        """One round; how many rows were purged. Nothing if another node has the lease."""
        now = self._time.now()
        return (
            await self._batches(lambda: self._log.compact(now - _LOG_MARGIN, _BATCH))
            + await self._batches(lambda: self._sessions.purge(now - self._retention, _BATCH))
            + await self._batches(
                lambda: self._log.purge_floors(now - self._retention - MAX_SESSION_TTL, _BATCH)
            )
        )

    async def _batches(self, purge: Callable[[], Awaitable[int]]) -> int:
        total = 0
        # The lease is renewed before each batch and outlives one by far.
        while await self._leases.acquire(_LEASE, self._node_id, max(30.0, 2 * self._interval)):
            purged = await purge()
            total += purged
            if purged < _BATCH:
                break
            await asyncio.sleep(_PAUSE)
        return total
