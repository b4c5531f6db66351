"""Back-channel logout on the node that has the lease: from the revocation log to the clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.issuing.minter import Minter
from token_service.core.keys.keyring import Keyring
from token_service.core.leases import Lease
from token_service.core.logout.clients import LogoutClients
from token_service.core.logout.delivering import LogoutDelivery, Outcome, SendLogout
from token_service.core.logout.planner import MAX_SESSIONS_TOLD, LogoutPlanner
from token_service.core.logout.store import Backlog, LogoutStore
from token_service.core.revocation.log import LogHead, RevocationLog
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.store import SessionFilter
from token_service.errors import TokenServiceError
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

LEASE_TTL: Final = 15.0
"""Seconds after which another node takes over from one that was killed."""
INTERVAL: Final = 5.0
"""Seconds between two renewals of the lease, or two attempts to take it."""
_PACE: Final = 0.5
"""Seconds between two looks for due deliveries, at least. A revocation or a client that was told makes it shorter."""
_HOLD: Final = 0.05
"""Seconds that a revocation waits for further ones."""

_NONE: Final = Backlog()

logger = logging.getLogger(__name__)


class BackchannelLogout:
    """Tells clients that their sessions have ended. While no client asks for it, the database is not used."""

    def __init__(
        self,
        store: LogoutStore,
        planner: LogoutPlanner,
        delivery: LogoutDelivery,
        clients: LogoutClients,
        lease: Lease,
        tailer: Tailer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._planner = planner
        self._delivery = delivery
        self._clients = clients
        self._lease = lease
        self._clock = clock
        self._leads_until = -inf
        self._renew_at = -inf
        self._heard = 0
        self.backlog = _NONE
        """The deliveries that wait, as the node with the lease has counted them; none on other nodes."""
        self.ran_at: float | None = None
        """The time at which this node last started all due deliveries, in seconds since the Unix epoch; None: never."""
        tailer.on_head(self._hear)

    async def run(self) -> None:
        """Plan and deliver until cancelled."""
        known = ""
        try:
            while True:
                try:
                    needed = len(self._clients) > 0 or self.backlog.count > 0
                    leads = needed and await self._lead()
                    known = ""
                except Exception as error:  # noqa: BLE001 - a defect or an unreadable row must not end the node
                    known, leads = _report(error, known), False
                await self._pause(leads=leads)
        finally:
            await self._delivery.stop()
            with suppress(TokenServiceError):
                await self._lease.release()

    async def tell(self, subject: str, entry: Cursor, time: float) -> None:
        """Plan the logouts of a subject whose sessions an entry of the log has ended and are about to be deleted.

        The planner finds the sessions by their rows. Clients may be told twice. Raises `StoreUnavailableError`.
        """
        if not len(self._clients):
            return
        revocation = Revocation(entry.sequence, RevocationTarget.SUBJECT, subject, time, time)
        ended = await self._store.sessions_ended_by(
            SessionFilter.SUBJECT, subject, revocation, MAX_SESSIONS_TOLD
        )
        told = [each for each in ended if self._clients.uri(each.client_id)]
        planned = not told
        while not planned:
            cursor = await self._store.cursor()
            planned = await self._store.plan(told, cursor, cursor, self._clock.now())

    async def _lead(self) -> bool:
        """Take or renew the lease, plan, and start the due deliveries. Tell whether this node has it."""
        if not await self._has_lease():
            self.backlog = _NONE
            return False
        self._delivery.freed.clear()
        while await self._planner.plan():
            if not await self._has_lease():
                return False
        await self._delivery.start_due()
        self.backlog = await self._store.backlog()
        self.ran_at = self._clock.now()
        return True

    async def _has_lease(self) -> bool:
        now = self._clock.monotonic()
        if now < self._renew_at:
            return True
        held = now < self._leads_until
        if not await self._lease.acquire(LEASE_TTL):
            self._leads_until = self._renew_at = -inf
            return False
        if not held:
            self._planner.reset()
        self._leads_until, self._renew_at = now + LEASE_TTL, now + INTERVAL
        return True

    async def _pause(self, *, leads: bool) -> None:
        """Wait for a revocation or for a client to be free, if this node has the lease; else for the next attempt."""
        if not leads:
            await asyncio.sleep(INTERVAL)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until_due()):
                await self._delivery.freed.wait()
        await asyncio.sleep(_HOLD)

    def _until_due(self) -> float:
        due = self.backlog.next_due
        return INTERVAL if due is None else min(INTERVAL, max(_PACE, due - self._clock.now()))

    def _hear(self, head: LogHead) -> None:
        if head.sequence != self._heard:
            self._heard = head.sequence
            self._delivery.freed.set()


def _report(error: Exception, known: str) -> str:
    """Log why logouts can't be delivered, once for the same reason, and return the reason."""
    expected = isinstance(error, TokenServiceError)
    problem = error.message if isinstance(error, TokenServiceError) else f"unexpected {type(error).__name__}"
    if problem != known:
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "logouts can't be delivered, trying again: %s",
            problem,
            exc_info=None if expected else error,
        )
    return problem


@dataclass(frozen=True, slots=True)
class LogoutPorts:
    """The ports of back-channel logout."""

    store: LogoutStore
    lease: Lease
    send: SendLogout
    count: Callable[[Outcome], None]
    clock: Clock


def make_backchannel_logout(
    ports: LogoutPorts,
    log: RevocationLog,
    tailer: Tailer,
    replica: Replica,
    clients: LogoutClients,
    minter: Minter,
    keyring: Keyring,
) -> BackchannelLogout:
    """Compose back-channel logout, without I/O."""
    return BackchannelLogout(
        ports.store,
        LogoutPlanner(ports.store, log, replica, clients, ports.clock),
        LogoutDelivery(ports.store, clients, minter, keyring, ports.send, ports.clock, ports.count),
        clients,
        ports.lease,
        tailer,
        ports.clock,
    )
