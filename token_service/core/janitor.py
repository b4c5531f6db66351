"""Purges what nobody needs any more, in small batches, on one node at a time.

What is purged can't be brought back, so it goes by a time that no single clock can put ahead: the earlier one
of the node's and the database's, neither of which may jump. Where both are one, on a machine with SQLite, a
clock may still have been wrong from the start. So where nobody has purged for long, by that clock, the
janitor waits for longer than any revocation matters before it believes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from token_service.clock import Clock
from token_service.core.policy import MAX_SESSION_TTL
from token_service.core.ports import LeaseStore, RevocationLog, SessionStore
from token_service.core.revoker import REMEMBER
from token_service.core.steady_time import SteadyTime
from token_service.errors import TokenServiceError

_LEASE: Final = "janitor"
_BATCH: Final = 500
_PAUSE: Final = 0.05
"""Seconds between two batches, so that callers' statements go first."""
_LOG_MARGIN: Final = 60.0
"""Seconds an entry of the log is kept beyond its expiry, for clocks that differ."""
_LONG: Final = 24 * 3600.0
"""Seconds without any purge after which the time is doubted, ..."""
_DOUBT: Final = 2.0 * REMEMBER
"""... and for how many seconds it is, by a clock that does not jump."""

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
        self._clock = clock
        self._time = SteadyTime(clock)
        self._doubted_since: float | None = None
        self._trusts = False
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
        """One round; how many rows were purged.

        Nothing if another node has the lease, or the time may be wrong.
        """
        self._time.bound((await self._log.head()).read_time)
        now = self._time.now()
        if not self._trusts and not await self._may_trust(now):
            return 0
        return (
            await self._batches(lambda: self._log.compact(now - _LOG_MARGIN, _BATCH))
            + await self._batches(lambda: self._sessions.purge(now - self._retention, _BATCH))
            + await self._batches(
                lambda: self._log.purge_floors(now - self._retention - MAX_SESSION_TTL, _BATCH)
            )
        )

    async def _may_trust(self, now: float) -> bool:
        last = await self._leases.last_held(_LEASE)
        elapsed = self._clock.monotonic()
        if last is not None and now - last > _LONG:
            if self._doubted_since is None:
                self._doubted_since = elapsed
                logger.warning(
                    "nothing was purged for %.1f days, or the clock is wrong: nothing will be for %.0f minutes",
                    (now - last) / 86400,
                    _DOUBT / 60,
                )
            if elapsed - self._doubted_since < _DOUBT:
                return False
        self._trusts = True
        return True

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
