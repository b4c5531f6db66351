"""The transmitter on the node that has the lease: from the event log to the receivers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final

from token_service.clock import Clock
from token_service.core.clients.client import ClientState
from token_service.core.clients.lookup import ClientLookup
from token_service.core.event_streams.changes import note_change
from token_service.core.event_streams.fan_out import FanOut
from token_service.core.event_streams.pausing import ACTOR
from token_service.core.event_streams.pushing import Pusher
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import Backlog, EventStream, StreamStatus
from token_service.core.event_streams.troubles import Troubles
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action
from token_service.core.events.feed import EventFeed
from token_service.core.leases import Lease
from token_service.errors import StoreUnavailableError, TokenServiceError

LEASE_TTL: Final = 15.0
"""Seconds after which another node takes over from one that was killed."""
_RENEWAL: Final = 5.0
_PACE: Final = 1.0
"""Seconds between two looks for events that wait, at least. An event in the log makes it shorter."""
_IDLE: Final = 5.0
"""Seconds between two looks while there is no stream."""

logger = logging.getLogger(__name__)


class Transmitter:
    """Fills the streams, and pushes them. Polls are answered by every node."""

    def __init__(
        self,
        store: EventStreamStore,
        feed: EventFeed,
        fan_out: FanOut,
        pusher: Pusher,
        clients: ClientLookup,
        lease: Lease,
        clock: Clock,
        audit: Audit,
    ) -> None:
        self._store = store
        self._feed = feed
        self._fan_out = fan_out
        self._pusher = pusher
        self._clients = clients
        self._lease = lease
        self._clock = clock
        self._audit = audit
        self._troubles = Troubles(clock)
        self._problem = ""
        """The reason why the last step failed; empty: it did not fail."""
        self._renew_at = -inf
        self._wanted = asyncio.Event()
        self.backlog = Backlog()
        """The events that wait, as the node with the lease has counted them; none on other nodes."""

    def wake(self) -> None:
        """Look soon, because a stream was changed in this process."""
        self._wanted.set()

    async def run(self) -> None:
        """Transmit until cancelled, while this process has the lease."""
        try:
            while True:
                pause = _IDLE
                try:
                    self._wanted.clear()
                    if await self._leads():
                        pause = _PACE if await self.step() else _IDLE
                    else:
                        await self._pusher.stop()
                    self._problem = ""
                except Exception as error:  # noqa: BLE001 - a defect or an unreadable row must not end the node
                    self._note(error)
                await self._pause(pause)
        finally:
            await self._pusher.stop()
            with suppress(TokenServiceError):
                await self._lease.release()

    def _note(self, error: Exception) -> None:
        """Note and log the reason of a failure, once for the same reason."""
        problem, expected = _problem_of(error), isinstance(error, TokenServiceError)
        if problem != self._problem:
            logger.log(
                logging.WARNING if expected else logging.ERROR,
                "event streams can't be served, trying again: %s",
                problem,
                exc_info=None if expected else error,
            )
        self._problem = problem

    async def step(self) -> bool:
        """Fill all streams and start the due pushes; return whether there are streams. Raises `StoreUnavailableError`."""
        streams = await self._store.list()
        stream_ids = {each.stream_id for each in streams}
        self._pusher.keep_only(stream_ids)
        self._troubles.keep_only(stream_ids)
        if streams:
            await self._fill(streams, await self._fan_out.places())
            await self._start_pushes()
        self.backlog = await self._store.backlog() if streams else Backlog()
        return bool(streams)

    async def _fill(self, streams: Sequence[EventStream], places: Mapping[str, int]) -> None:
        """Fill each stream. One that can't be filled is put off and delays no other."""
        for stream in streams:
            if not self._troubles.is_due(stream):
                continue
            try:
                await self._fill_one(stream, places.get(stream.consumer))
            except StoreUnavailableError:
                raise  # the others need the database too
            except Exception as error:  # noqa: BLE001 - an event that can't be read must not stop the other streams
                self._put_off(stream, error)
            else:
                self._troubles.succeeded(stream)

    async def _fill_one(self, stream: EventStream, place: int | None) -> None:
        client = self._clients.get(stream.client_id)
        if client is not None and client.state is ClientState.DELETED:
            await self._delete(stream)
        elif client is None or client.state is not ClientState.ACTIVE:
            return  # its place stays
        elif stream.status is StreamStatus.ENABLED:
            while place is not None and await self._leads():
                place = await self._fan_out.step(stream, place)

    def _put_off(self, stream: EventStream, error: Exception) -> None:
        trouble, problem = self._troubles.failed(stream), _problem_of(error)
        if trouble.problem == problem:
            return
        trouble.problem = problem
        logger.error(
            "events can't be added to stream %s of client %s, trying again: %s",
            stream.stream_id,
            stream.client_id,
            problem,
            exc_info=None if isinstance(error, TokenServiceError) else error,
        )

    async def _start_pushes(self) -> None:
        waiting = await self._store.streams_waiting()
        if not waiting:
            return
        for stream in await self._store.list():  # as they are now
            client = self._clients.get(stream.client_id)
            is_active = client is not None and client.state is ClientState.ACTIVE
            if stream.stream_id in waiting and is_active and stream.status is not StreamStatus.DISABLED:
                self._pusher.begin(stream)

    async def _delete(self, stream: EventStream) -> None:
        event = note_change(ACTOR, Action.EVENT_STREAM_DELETED, stream, cause="client_deleted")
        if await self._store.delete(stream.stream_id, [event]):
            self._audit.record(event)

    async def _leads(self) -> bool:
        """Take or renew the lease."""
        now = self._clock.monotonic()
        if now < self._renew_at:
            return True
        if not await self._lease.acquire(LEASE_TTL):
            self._renew_at = -inf
            self.backlog = Backlog()
            return False
        self._renew_at = now + _RENEWAL
        return True

    async def _pause(self, seconds: float) -> None:
        """Wait for an event, for a change of a stream in this process, or for some time."""
        known = self._feed.known
        waits: list[Coroutine[Any, Any, object]] = [self._wanted.wait()]
        if known is not None and seconds < _IDLE:
            waits.append(self._feed.wait(known.sequence, seconds))
        tasks = [asyncio.create_task(each) for each in waits]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _problem_of(error: Exception) -> str:
    return error.message if isinstance(error, TokenServiceError) else f"unexpected {type(error).__name__}"
