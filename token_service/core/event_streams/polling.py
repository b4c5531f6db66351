"""Polls of receivers (RFC 8936)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.event_streams.event_types import STREAM_UPDATED
from token_service.core.event_streams.management import ReceiverStreams
from token_service.core.event_streams.outcome import Outcome
from token_service.core.event_streams.sets import SecurityEventTokens
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import DeliveryMethod, EventStream, StreamStatus, WaitingEvent
from token_service.errors import EventStreamNotFoundError

MAX_EVENTS: Final = 100
"""Events of one answer."""
MAX_ACKNOWLEDGED: Final = 1000
"""Events that one poll acknowledges or refuses."""
LONG_POLL: Final = 10.0
"""Seconds that a poll waits for an event."""
MAX_LONG_POLLS: Final = 200
"""Polls of one process that wait at the same time. Further ones are answered at once."""
_LOOK: Final = 0.5
"""Seconds between two looks for an event."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """One poll (RFC 8936, section 2.2)."""

    max_events: int = MAX_EVENTS
    return_immediately: bool = False
    acknowledged: Sequence[str] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """The error code of each event that the receiver refuses, by its `jti`."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The answer: tokens by their `jti`, in order."""

    tokens: Mapping[str, str]
    more_available: bool = False


class Polls:
    """Answers polls. An event is sent again with each poll until it is acknowledged."""

    def __init__(
        self,
        streams: ReceiverStreams,
        store: EventStreamStore,
        tokens: SecurityEventTokens,
        clock: Clock,
        count: Callable[[Outcome, int], None],
    ) -> None:
        self._streams = streams
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._count = count
        self.waiting = 0
        """Polls that wait for an event."""

    async def poll(self, caller: Caller, stream_id: str, poll: Poll) -> Polled:
        """Take what the receiver acknowledges, then return the events that wait; wait for one if there are none.

        A paused stream returns only the event that tells so, a disabled one nothing. Raises
        `EventStreamNotFoundError`, also for a stream that is pushed, `SigningUnavailableError` and `StoreUnavailableError`.
        """
        stream = await self._own(caller, stream_id)
        await self._take(stream, poll)
        if poll.max_events == 0:
            return Polled({})
        until = self._clock.monotonic() + LONG_POLL
        patient = not poll.return_immediately and self.waiting < MAX_LONG_POLLS
        self.waiting += patient
        try:
            while True:
                found = await self._next(stream, min(poll.max_events, MAX_EVENTS))
                if found.tokens or not patient or self._clock.monotonic() >= until:
                    return found
                await asyncio.sleep(_LOOK)
                stream = await self._own(caller, stream_id)
        finally:
            self.waiting -= patient

    async def _own(self, caller: Caller, stream_id: str) -> EventStream:
        stream = await self._streams.get(caller, stream_id)
        if stream.method is not DeliveryMethod.POLL:
            raise EventStreamNotFoundError("the events of this stream are pushed")
        return stream

    async def _take(self, stream: EventStream, poll: Poll) -> None:
        if poll.acknowledged:
            done = await self._store.finish(stream.stream_id, poll.acknowledged)
            self._count(Outcome.DELIVERED, done)
        if poll.refused:
            refused = await self._store.finish(stream.stream_id, list(poll.refused))
            self._count(Outcome.REFUSED, refused)
            if refused:
                logger.warning(
                    "client %s refuses %d events of its stream %s, which are not sent again: %s",
                    stream.client_id,
                    refused,
                    stream.stream_id,
                    ", ".join(sorted(set(poll.refused.values()))),
                )

    async def _next(self, stream: EventStream, most: int) -> Polled:
        if stream.status is StreamStatus.DISABLED:
            return Polled({})
        types = () if stream.status is StreamStatus.ENABLED else (STREAM_UPDATED,)
        while True:
            waiting = await self._store.waiting(stream.stream_id, most + 1, types)
            signed, empty = await self._signed(stream, waiting[:most])
            if empty:
                await self._store.finish(stream.stream_id, empty)
                self._count(Outcome.DROPPED, len(empty))
                if not signed:
                    continue
            return Polled(signed, len(waiting) > most)

    async def _signed(
        self, stream: EventStream, waiting: Sequence[WaitingEvent]
    ) -> tuple[dict[str, str], list[str]]:
        """Return the tokens by `jti`, and the events that can't be sent any more."""
        signed: dict[str, str] = {}
        empty: list[str] = []
        for event in waiting:
            token = await self._tokens.of(stream, event)
            if token is None:
                empty.append(event.token_id)
            else:
                signed[event.token_id] = token
        return signed, empty
