"""Pauses streams that can't go on by themselves, and tells their receivers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from msgspec import structs

from token_service.clock import Clock
from token_service.core.entropy import Entropy
from token_service.core.event_streams.changes import note_change
from token_service.core.event_streams.event_types import STREAM_UPDATED
from token_service.core.event_streams.sets import about_stream
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import MAX_WAITING, EventStream, StreamStatus
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor

ACTOR: Final = Actor.system("event-streams")

logger = logging.getLogger(__name__)


class PauseCause(StrEnum):
    """Why this service pauses a stream."""

    NOT_ACKNOWLEDGED = "not_acknowledged"
    EVENTS_EXPIRED = "events_expired"


_TEXTS: Final = {
    PauseCause.NOT_ACKNOWLEDGED: f"{MAX_WAITING} events are not acknowledged; acknowledge them, then enable the stream",
    PauseCause.EVENTS_EXPIRED: "events were deleted after their retention before they could be sent; "
    "compare the sessions, then enable the stream",
}


class Pausing:
    """Pauses streams: events are held, and the receiver gets a stream-updated event."""

    def __init__(
        self,
        store: EventStreamStore,
        audit: Audit,
        clock: Clock,
        entropy: Entropy,
        paused: Callable[[PauseCause], None],
    ) -> None:
        """`paused` is called with the cause of each pause."""
        self._store = store
        self._audit = audit
        self._clock = clock
        self._entropy = entropy
        self._paused = paused

    async def pause(self, stream: EventStream, cause: PauseCause) -> bool:
        """Pause a stream. Returns False if its receiver has changed it meanwhile. Raises `StoreUnavailableError`."""
        reason = _TEXTS[cause]
        paused = structs.replace(
            stream, status=StreamStatus.PAUSED, reason=reason, revision=stream.revision + 1
        )
        event = note_change(ACTOR, Action.EVENT_STREAM_UPDATED, paused, stream, cause=cause.value)
        update = about_stream(
            STREAM_UPDATED,
            {"status": paused.status.value, "reason": reason},
            self._clock.now(),
            self._entropy,
        )
        if not await self._store.save(paused, [event], waiting=[update]):
            return False
        self._audit.record(event)
        self._paused(cause)
        logger.error(
            "event stream %s of client %s was paused: %s", stream.stream_id, stream.client_id, reason
        )
        return True
