"""Moves events of the log into the streams that get them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from token_service.core.event_streams.pausing import PauseCause, Pausing
from token_service.core.event_streams.sets import Selection
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import MAX_WAITING, DeliveryMethod, EventStream, WaitingEvent
from token_service.core.events.feed import EventFeed
from token_service.core.events.log import EventHead, EventLog

_BATCH: Final = 100


class FanOut:
    """Reads the log for one stream at a time. The place and the waiting events change in one transaction."""

    def __init__(
        self,
        store: EventStreamStore,
        log: EventLog,
        feed: EventFeed,
        selection: Selection,
        pausing: Pausing,
    ) -> None:
        self._store = store
        self._log = log
        self._feed = feed
        self._selection = selection
        self._pausing = pausing

    async def places(self) -> Mapping[str, int]:
        """Return the places of all consumers of the log. Raises `StoreUnavailableError`."""
        return await self._log.positions()

    async def step(self, stream: EventStream, place: int) -> int | None:
        """Move the next events after `place` into a stream; return its new place; None: there are none for now.

        Events that a full stream has no room for stay in the log. Raises `StoreUnavailableError`.
        """
        events = await self._feed.read(place, _BATCH)
        known = self._feed.known
        if not events and known is not None and known.purged <= place <= known.sequence:
            return None
        if not events or events[0].sequence != place + 1:
            head = await self._log.head()
            if not events or head.purged > place:
                return await self._at_an_end(stream, place, head)
            # A renewal of the revocation log has raised the numbers: none is missing.
        space = MAX_WAITING - await self._store.count_waiting(stream.stream_id)
        found: list[WaitingEvent] = []
        through = place
        for event in events:
            more = await self._selection.of(stream, event)
            if len(found) + len(more) > max(space, 0) and more:
                if stream.method is DeliveryMethod.POLL and not found:
                    await self._pausing.pause(stream, PauseCause.NOT_ACKNOWLEDGED)
                    return None
                break
            found += more
            through = event.sequence
        if through == place or not await self._store.enqueue(stream, place, through, found):
            return None
        return through

    async def _at_an_end(self, stream: EventStream, place: int, head: EventHead) -> int | None:
        """Return where to go on if the log does not continue at the place of a stream."""
        if place > head.sequence:  # the database was restored: the numbers are given out again
            return head.purged if await self._store.enqueue(stream, place, head.purged, ()) else None
        if place < head.purged:
            await self._store.enqueue(stream, place, head.purged, ())
            await self._pausing.pause(stream, PauseCause.EVENTS_EXPIRED)
        return None
