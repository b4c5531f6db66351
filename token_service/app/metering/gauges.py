"""Gauges of a node: the state that the page and the exporters show."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from math import isfinite
from typing import Final

from token_service.app.access import Access
from token_service.app.core import Core
from token_service.certificates.server import TlsFiles, expiry
from token_service.core.events.queue import RowQueue
from token_service.core.keys.lifecycle import signing_key
from token_service.core.keys.store import SigningKeyState
from token_service.core.subscribers.lag import Staleness, SubscriberLag
from token_service.errors import TokenServiceError
from token_service.rpc.stream.feed import Feed
from token_service.stores.sql.stores import SqlStores
from token_service.telemetry import Metrics, registry
from token_service.telemetry.metrics import Values

INTERVAL: Final = 2.0
"""Seconds between two readings of the gauges. Other workers show them at most this late."""
_RARELY: Final = 15.0
"""Seconds between two readings that ask the database and read files."""
_POOL: Final = "engine"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The parts of a node whose state is shown."""

    core: Core
    access: Access
    feed: Feed
    event_readers: Sized
    stores: SqlStores
    rows: RowQueue
    lag: SubscriberLag
    tls: TlsFiles | None
    problems: Callable[[], Sequence[str]]
    """Returns why this process is not ready."""


class Gauges:
    """Reads the gauges of a node."""

    def __init__(self, metrics: Metrics, observed: Observed) -> None:
        """Register the gauges. The core is started."""
        self._metrics = metrics
        self._observed = observed
        self._staleness = Staleness()
        self._locks: tuple[int, float] | None = None
        self._events_wait: float | None = None
        self._expiries: Mapping[str, float] = {}
        self._lost = metrics.counter(registry.AUDIT_LOST)
        self._lost_before = 0
        self._of_subscribers()
        self._of_log()
        self._of_keys()
        self._of_background()
        self._of_database()
        self._of_redis()
        if (starts := metrics.counter(registry.WORKER_STARTS)) is not None:
            starts.add(1)

    async def run(self) -> None:
        """Read the gauges until cancelled, and once more then."""
        if not self._metrics.is_on:
            await asyncio.Event().wait()
        rarely = asyncio.create_task(self._read_rarely(), name="gauges-of-database")
        try:
            while True:
                self.update()
                await asyncio.sleep(INTERVAL)
        finally:
            rarely.cancel()
            self.update()

    def update(self) -> None:
        """Read the gauges now."""
        self._staleness = self._observed.lag.staleness()
        lost = self._observed.rows.lost
        if self._lost is not None and lost > self._lost_before:
            self._lost.add(lost - self._lost_before)
            self._lost_before = lost
        self._metrics.update()

    async def _read_rarely(self) -> None:
        failing = False
        while True:
            try:
                self._expiries = await asyncio.to_thread(_expiries, self._observed.tls)
                if self._observed.stores.has_lock_waits:
                    self._locks = await self._observed.stores.lock_waits()
                self._events_wait = await self._observed.core.ports.stores.events.waiting()
                failing = False
            except TokenServiceError as error:
                self._locks = self._events_wait = None
                if not failing:
                    logger.warning("gauges of the database can't be read, trying again: %s", error.message)
                failing = True
            await asyncio.sleep(_RARELY)

    def _of_subscribers(self) -> None:
        gauge, observed = self._metrics.gauge, self._observed
        subscribers = observed.core.subscribers
        gauge(registry.STREAMS, lambda: len(observed.feed))
        gauge(registry.EVENT_READERS, lambda: len(observed.event_readers))
        gauge(registry.SUBSCRIBERS, lambda: len(subscribers))
        gauge(registry.SUBSCRIBERS_SILENT, lambda: subscribers.silent)
        gauge(registry.SUBSCRIBERS_BEHIND, lambda: self._staleness.behind)
        gauge(
            registry.SUBSCRIBER_STALENESS,
            lambda: {("max",): self._staleness.highest, ("p99",): self._staleness.p99},
        )

    def _of_log(self) -> None:
        gauge, core = self._metrics.gauge, self._observed.core
        gauge(registry.REPLICA_STALENESS, lambda: core.tailer.staleness)
        gauge(registry.LOG_HEAD, lambda: core.replica.applied)
        gauge(
            registry.REVOCATIONS,
            lambda: {
                (target.name.lower(),): count for target, count in core.replica.revocations.counts().items()
            },
        )

    def _of_keys(self) -> None:
        self._metrics.gauge(registry.KEY_AGE, self._key_ages)
        self._metrics.gauge(registry.KEY_NEXT_ROTATION, self._next_rotation)
        self._metrics.gauge(registry.CERTIFICATE_EXPIRY, self._certificate_expiries)

    def _key_ages(self) -> Values:
        now = self._observed.core.ports.clock.now()
        ages: dict[tuple[str, ...], float] = defaultdict(float)
        for key in self._observed.core.keyring.signing_keys():
            since = {
                SigningKeyState.ACTIVE: key.activate_time,
                SigningKeyState.RETIRED: key.retire_time,
                SigningKeyState.REVOKED: key.revoke_time,
            }.get(key.state)
            labels = (key.state.value, key.algorithm.value)
            ages[labels] = max(ages[labels], now - (key.create_time if since is None else since))
        return ages

    def _next_rotation(self) -> Values:
        core = self._observed.core
        rules = core.options.rotation
        key = signing_key(core.keyring.signing_keys(), rules.algorithm)
        if key is None:
            return None
        since = key.create_time if key.activate_time is None else key.activate_time
        return since + rules.period - core.ports.clock.now()

    def _certificate_expiries(self) -> Values:
        now = self._observed.core.ports.clock.now()
        return {(name,): time - now for name, time in self._expiries.items()}

    def _of_background(self) -> None:
        gauge, core = self._metrics.gauge, self._observed.core
        janitor, time = core.janitor, core.time
        gauge(registry.JANITOR_LEADER, lambda: int(janitor.leads))
        gauge(registry.JANITOR_AGE, lambda: None if janitor.swept is None else time.elapsed() - janitor.swept)
        gauge(registry.EVENT_LOG_WAITING, lambda: self._events_wait)
        gauge(registry.AUDIT_QUEUED, lambda: len(self._observed.rows))
        gauge(registry.AUDIT_FAILING, lambda: int(self._observed.rows.is_failing))
        gauge(registry.READY, lambda: int(not self._observed.problems()))
        gauge(registry.POLICY_FILE_FAILING, lambda: int(bool(self._observed.access.policy_problem)))
        logout = core.backchannel_logout
        gauge(registry.LOGOUTS_PENDING, lambda: None if logout is None else logout.backlog.count)
        webhooks = core.webhooks.delivery
        gauge(registry.WEBHOOKS_FAILING, lambda: webhooks.failing)
        gauge(registry.WEBHOOK_DEAD_LETTERS, lambda: webhooks.dead_letters)
        gauge(registry.WEBHOOK_EVENTS_BEHIND, lambda: webhooks.events_behind)
        gauge(registry.WEBHOOK_LAG, lambda: webhooks.seconds_behind)

        ssf, clock = core.ssf.transmitter, core.ports.clock
        gauge(registry.SSF_WAITING, lambda: ssf.backlog.count)
        gauge(
            registry.SSF_WAITING_AGE,
            lambda: 0.0 if ssf.backlog.oldest is None else max(0.0, clock.now() - ssf.backlog.oldest),
        )

    def _of_redis(self) -> None:
        core = self._observed.core

        def in_use() -> Values:
            found: dict[tuple[str, ...], float] = {}
            if core.mirroring is not None:
                found["revocations", core.mirroring.server] = int(not core.mirroring.is_failing)
            if core.counters.server is not None:
                found["rates", core.counters.server] = int(core.counters.are_shared)
            return found

        self._metrics.gauge(registry.REDIS_IN_USE, in_use)

    def _of_database(self) -> None:
        gauge, stores = self._metrics.gauge, self._observed.stores
        pool = stores.pool
        gauge(registry.CONNECTIONS, lambda: {(_POOL, "used"): pool.used, (_POOL, "idle"): max(0, pool.idle)})
        gauge(registry.CONNECTIONS_MAX, lambda: {(_POOL,): pool.most})
        gauge(registry.CONNECTION_REQUESTS, lambda: {(_POOL,): pool.waiting})
        gauge(
            registry.LANE_QUEUED,
            lambda: dict(zip((("read",), ("write",)), map(float, stores.queued), strict=True)),
        )
        gauge(registry.LOCK_WAITS, lambda: None if self._locks is None else self._locks[0])
        gauge(registry.LOCK_WAIT_AGE, lambda: None if self._locks is None else self._locks[1])


def _expiries(files: TlsFiles | None) -> Mapping[str, float]:
    if files is None:
        return {}
    found = {"server": expiry(files.certificate_chain)}
    if files.client_ca is not None:
        found["client_authority"] = expiry(files.client_ca)
    return {name: time for name, time in found.items() if time is not None and isfinite(time)}
