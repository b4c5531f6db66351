"""Purges data that is no longer needed, in small batches, on the node that has the lease.

Purged data can't be restored, so the janitor uses `SteadyTime`, which no single clock can put ahead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.leases import Lease
from token_service.core.revocation.log import FloorPosition, RevocationLog
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.sessions.store import SessionStore
from token_service.errors import TokenServiceError

_BATCH: Final = 500
_PAUSE: Final = 0.05
"""Seconds between two batches, so that statements of calls run first."""
_LOG_MARGIN: Final = 60.0
"""Seconds that a log entry is kept after its expiry, because clocks differ."""
_DEVICE_MARGIN: Final = 60.0
"""Seconds that the request of a device is kept after its expiry, because clocks differ."""
_FLOOR_MARGIN: Final = 3600.0
"""Minimal lifetime of a floor in seconds: more than clocks differ and a statement takes."""
_FLOOR_BATCHES: Final = 40
"""Batches of floors examined in a round; the next round continues after them."""

_TOP_CLIENTS: Final = 20
"""Clients that the event of a batch names."""
_ACTOR: Final = Actor.system("janitor")

logger = logging.getLogger(__name__)


class ExpiringRows(Protocol):
    """Rows that are not needed after a time."""

    async def purge(self, before: float, limit: int) -> int:
        """Delete at most `limit` rows that expired before a time; return their number."""
        ...


class Janitor:
    """Purges ended sessions, expired log entries, floors that are above no session, and requests of devices."""

    def __init__(
        self,
        sessions: SessionStore,
        log: RevocationLog,
        devices: ExpiringRows,
        lease: Lease,
        time: SteadyTime,
        audit: Audit,
        *,
        interval: float,
        retention: float,
    ) -> None:
        self._sessions = sessions
        self._log = log
        self._devices = devices
        self._lease = lease
        self._time = time
        self._audit = audit
        self._floors_done: FloorPosition | None = None
        self.interval = interval
        """Seconds between two purges. May be changed at any time."""
        self._retention = retention
        self.ran_at: float | None = None
        """The time of the last complete round of this node, in seconds since the Unix epoch; None: none yet."""
        self._listeners: list[Callable[[float, int], None]] = []
        self.leads = False
        """Whether this node led the last round."""
        self.swept: float | None = None
        """The monotonic time of the end of the last round that this node led; None: it led none."""

    def on_sweep(self, listener: Callable[[float, int], None]) -> None:
        """Call `listener` after each round that this node led, with its seconds and the number of purged rows."""
        self._listeners.append(listener)

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
                        logger.warning("the purge failed, trying again: %s", error.message)
                    failing = True
                await asyncio.sleep(self.interval)
        finally:
            try:
                async with asyncio.timeout(1):
                    await self._lease.release()
            except (TokenServiceError, TimeoutError):
                pass

    async def sweep(self) -> int:
        """Purge one round; return the number of purged rows. Purges nothing if another node has the lease."""
        began = self._time.elapsed()
        self._time.bound((await self._log.head()).read_time)
        now = self._time.now()
        purged = (
            await self._batches(lambda: self._log.compact(now - _LOG_MARGIN, _BATCH))
            + await self._batches(lambda: self._purge_sessions(now - self._retention))
            + await self._batches(lambda: self._devices.purge(now - _DEVICE_MARGIN, _BATCH))
            + await self._purge_floors(now - _FLOOR_MARGIN)
        )
        self.leads = await self._lead()
        if self.leads:
            await self._time.note(self._lease.store)
            self.ran_at = self._time.now()
            self.swept = self._time.elapsed()
            for listener in self._listeners:
                listener(self.swept - began, purged)
        return purged

    async def _purge_sessions(self, before: float) -> int:
        """Purge a batch of sessions. One event tells how many of them had expired.

        An event for each session would come as late, after the retention, and cost a row for each.
        """
        expired: Counter[str] = Counter()
        purged = await self._sessions.purge(before, _BATCH, expired)
        if expired:
            event = AuditEvent(
                action=Action.SESSION_EXPIRED,
                actor=_ACTOR,
                target=Target("sessions"),
                fields={
                    "sessions": expired.total(),
                    "ended_before": before,
                    "clients": dict(expired.most_common(_TOP_CLIENTS)),
                },
            )
            self._audit.record(event)
        return purged

    async def _purge_floors(self, before: float) -> int:
        total = 0
        for _ in range(_FLOOR_BATCHES):
            if not await self._lead():
                break
            purged, self._floors_done = await self._log.purge_floors(before, _BATCH, self._floors_done)
            total += purged
            if self._floors_done is None:
                break
            await asyncio.sleep(_PAUSE)
        return total

    async def _batches(self, purge: Callable[[], Awaitable[int]]) -> int:
        total = 0
        while await self._lead():
            purged = await purge()
            total += purged
            if purged < _BATCH:
                break
            await asyncio.sleep(_PAUSE)
        return total

    async def _lead(self) -> bool:
        # The lease is renewed before each batch and lasts much longer than one.
        return await self._lease.acquire(max(30.0, 2 * self.interval))
