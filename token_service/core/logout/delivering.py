"""Sends logout tokens to clients (OpenID Connect Back-Channel Logout 1.0, section 2.5)."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from itertools import groupby
from typing import Final

from token_service.clock import Clock
from token_service.core.issuing.minter import Minter
from token_service.core.keys.keyring import Keyring
from token_service.core.logout.clients import LogoutClients
from token_service.core.logout.store import Delivery, LogoutStore
from token_service.errors import ClientDisabledError, PolicyViolationError, TokenServiceError

MAX_CLIENTS_TOLD: Final = 16
"""Clients that are told at the same time."""
LOGOUTS_PER_CLIENT: Final = 4
"""Tokens that are on their way to one client at the same time."""
LOGOUT_MAX_AGE: Final = 86400.0
"""Seconds after which a logout is given up. Every access token of the session has expired by then."""
_FIRST_DELAY: Final = 2.0
_GROWTH: Final = 3
_LONGEST_DELAY: Final = 3600.0
_BATCH: Final = 256
_RETRY: Final = 1.0
"""Seconds after which a client is tried again if this node could not sign or use the database."""
_LAST_CHANCE: Final = 5.0
"""Seconds for the running deliveries when the node stops."""

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """The outcome of an attempt."""

    SENT = "sent"
    FAILED = "failed"
    """The attempt is repeated."""
    GIVEN_UP = "given_up"


class ReceiverUnreachableError(Exception):
    """A client gave no answer, or one that is no answer to a logout token. The message is for operators."""


SendLogout = Callable[[str, str], Awaitable[int]]
"""`send(uri, token)` posts a logout token, in a bounded time, and returns the status of the answer.

Raises `ReceiverUnreachableError`.
"""


def delay_after(attempts: int) -> float:
    """Return the seconds between a failed attempt, which was the `attempts`-th, and the next one."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * math.pow(_GROWTH, min(attempts - 1, 20)))


class LogoutDelivery:
    """Tells clients of logouts. A client that is slow or away delays only its own."""

    def __init__(
        self,
        store: LogoutStore,
        clients: LogoutClients,
        minter: Minter,
        keyring: Keyring,
        send: SendLogout,
        clock: Clock,
        count: Callable[[Outcome], None],
    ) -> None:
        """`count` is called with the outcome of each attempt."""
        self._store = store
        self._clients = clients
        self._minter = minter
        self._keyring = keyring
        self._send = send
        self._clock = clock
        self._count = count
        self._telling: dict[str, asyncio.Task[None]] = {}
        self.freed = asyncio.Event()
        """Set when a client was told, so that others or its next logouts may begin."""

    async def start_due(self) -> None:
        """Begin to tell the clients whose deliveries are due. Raises `StoreUnavailableError`."""
        while len(self._telling) < MAX_CLIENTS_TOLD:
            due = await self._store.due(self._clock.now(), _BATCH, list(self._telling))
            if not due:
                return
            by_client = sorted(due, key=lambda each: each.session.client_id)
            for client_id, deliveries in groupby(by_client, key=lambda each: each.session.client_id):
                if len(self._telling) < MAX_CLIENTS_TOLD:
                    self._begin(client_id, list(deliveries))

    async def stop(self) -> None:
        """Wait a short time for the running deliveries, then cancel them. They are repeated by another node."""
        tasks = list(self._telling.values())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_LAST_CHANCE)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _begin(self, client_id: str, deliveries: Sequence[Delivery]) -> None:
        task = asyncio.create_task(self._tell(client_id, deliveries), name="logout-delivery")
        self._telling[client_id] = task

        def ended(done: asyncio.Task[None]) -> None:
            del self._telling[client_id]
            self.freed.set()
            if not done.cancelled() and (error := done.exception()) is not None:
                if isinstance(error, TokenServiceError):
                    logger.warning("logouts can't be delivered, trying again: %s", error.message)
                else:
                    logger.error("the delivery of logouts failed", exc_info=error)

        task.add_done_callback(ended)

    async def _tell(self, client_id: str, deliveries: Sequence[Delivery]) -> None:
        """Deliver in small groups, until the client is found to be away."""
        for start in range(0, len(deliveries), LOGOUTS_PER_CLIENT):
            group = deliveries[start : start + LOGOUTS_PER_CLIENT]
            attempted = (self._attempt_safely(client_id, each) for each in group)
            reached = await asyncio.gather(*attempted, return_exceptions=True)
            for error in reached:
                if isinstance(error, BaseException):
                    await asyncio.sleep(_RETRY)  # while the deliveries of the client do not count as due
                    raise error
            if not all(reached):
                attempts = max(each.attempts for each in group) + 1
                await self._store.postpone_client(client_id, self._clock.now() + delay_after(attempts))
                return

    async def _attempt_safely(self, client_id: str, delivery: Delivery) -> bool:
        """Make an attempt. A defect that one delivery meets puts off only this one."""
        try:
            return await self._attempt(client_id, delivery)
        except TokenServiceError:
            raise  # no delivery can be made now
        except Exception:
            if delivery.attempts == 0:
                logger.exception(
                    "the logout of session %s can't be sent to client %s, trying again for a day",
                    delivery.session.session_id,
                    client_id,
                )
            await self._postpone(delivery)
            return True

    async def _attempt(self, client_id: str, delivery: Delivery) -> bool:
        """Send one logout token; return whether the client is reachable."""
        session = delivery.session
        uri = self._clients.uri(client_id)
        if not uri or self._clock.now() - delivery.create_time > LOGOUT_MAX_AGE:
            await self._give_up(
                delivery, "it is too old" if uri else "the client has no backchannel_logout_uri"
            )
            return True
        try:
            await self._keyring.ready()
            token = await self._minter.logout_token(
                client_id, session.subject, str(session.session_id), self._clock.now()
            )
        except (PolicyViolationError, ClientDisabledError) as error:
            await self._give_up(delivery, error.message)
            return True
        try:
            status = await self._send(uri, token)
        except ReceiverUnreachableError as error:
            await self._fail(delivery, str(error))
            return False
        if status in {200, 204}:
            await self._store.finish([session.session_id])
            self._count(Outcome.SENT)
            return True
        await self._fail(delivery, f"it answered with status {status}")
        return status < 500 and status != 429

    async def _fail(self, delivery: Delivery, why: str) -> None:
        await self._postpone(delivery)
        if delivery.attempts == 0:
            logger.warning(
                "client %s was not told of a logout, trying again for a day: %s",
                delivery.session.client_id,
                why,
            )

    async def _postpone(self, delivery: Delivery) -> None:
        attempts = delivery.attempts + 1
        await self._store.postpone(
            delivery.session.session_id, attempts, self._clock.now() + delay_after(attempts)
        )
        self._count(Outcome.FAILED)

    async def _give_up(self, delivery: Delivery, why: str) -> None:
        await self._store.finish([delivery.session.session_id])
        self._count(Outcome.GIVEN_UP)
        logger.error(
            "client %s is not told of the end of session %s: %s",
            delivery.session.client_id,
            delivery.session.session_id,
            why,
        )
