"""Event streams in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from tests.support.memory_audit import MemoryAuditStore
from tests.support.memory_clients import micro
from tests.support.memory_events import MemoryEventLog
from token_service.core.event_streams.stream import Backlog, EventStream, StreamStatus, WaitingEvent
from token_service.core.events.event import AuditEvent


class MemoryEventStreamStore:
    """Implements `core.event_streams.store.EventStreamStore`."""

    def __init__(self, audit: MemoryAuditStore, log: MemoryEventLog) -> None:
        self._audit: Final = audit
        self._log: Final = log
        self.streams: dict[str, EventStream] = {}
        self.waiting_in: dict[str, dict[str, WaitingEvent]] = {}
        self._verified: dict[str, float] = {}
        self._removed: set[tuple[str, str]] = set()

    async def create(self, stream: EventStream, limit: int, events: Sequence[AuditEvent]) -> bool:
        """See `EventStreamStore.create`."""
        if len(await self.list(stream.client_id)) >= limit:
            return False
        self.streams[stream.stream_id] = stream
        self.waiting_in[stream.stream_id] = {}
        self._log.places[stream.consumer] = self._log.last
        self._audit.add(events)
        return True

    async def get(self, stream_id: str) -> EventStream | None:
        """See `EventStreamStore.get`."""
        return self.streams.get(stream_id)

    async def list(self, client_id: str = "") -> Sequence[EventStream]:
        """See `EventStreamStore.list`."""
        found = [each for each in self.streams.values() if client_id in {"", each.client_id}]
        return sorted(found, key=lambda each: (each.create_time, each.stream_id))

    async def save(
        self,
        stream: EventStream,
        events: Sequence[AuditEvent],
        *,
        waiting: Sequence[WaitingEvent] = (),
        drop: bool = False,
        restart: bool = False,
    ) -> bool:
        """See `EventStreamStore.save`."""
        known = self.streams.get(stream.stream_id)
        if known is None or known.revision != stream.revision - 1:
            return False
        self.streams[stream.stream_id] = stream
        if drop or restart:
            self.waiting_in[stream.stream_id].clear()
            self._log.places[stream.consumer] = self._log.last
        self._add(stream.stream_id, waiting)
        self._audit.add(events)
        return True

    async def delete(self, stream_id: str, events: Sequence[AuditEvent]) -> bool:
        """See `EventStreamStore.delete`."""
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return False
        del self.waiting_in[stream_id]
        self._log.places.pop(stream.consumer, None)
        self._removed = {each for each in self._removed if each[0] != stream_id}
        self._audit.add(events)
        return True

    async def verify(self, stream_id: str, event: WaitingEvent, not_after: float) -> bool:
        """See `EventStreamStore.verify`."""
        if stream_id not in self.streams or self._verified.get(stream_id, not_after) > not_after:
            return False
        self._verified[stream_id] = event.create_time
        self._add(stream_id, [event])
        return True

    async def remove_subject(self, stream_id: str, fingerprint: str, limit: int) -> bool:
        """See `EventStreamStore.remove_subject`."""
        key = (stream_id, fingerprint)
        if key not in self._removed and sum(each[0] == stream_id for each in self._removed) >= limit:
            return False
        self._removed.add(key)
        return True

    async def add_subject(self, stream_id: str, fingerprint: str) -> None:
        """See `EventStreamStore.add_subject`."""
        self._removed.discard((stream_id, fingerprint))

    async def removed_among(self, stream_id: str, fingerprints: Collection[str]) -> bool:
        """See `EventStreamStore.removed_among`."""
        return any((stream_id, each) in self._removed for each in fingerprints)

    async def enqueue(
        self, stream: EventStream, known: int, through: int, waiting: Sequence[WaitingEvent]
    ) -> bool:
        """See `EventStreamStore.enqueue`."""
        if self._log.places.get(stream.consumer) != known:
            return False
        self._log.places[stream.consumer] = through
        self._add(stream.stream_id, waiting)
        return True

    async def waiting(
        self, stream_id: str, limit: int, event_types: Collection[str] = ()
    ) -> Sequence[WaitingEvent]:
        """See `EventStreamStore.waiting`."""
        found = self.waiting_in.get(stream_id, {}).values()
        return [each for each in found if not event_types or each.event_type in event_types][:limit]

    async def count_waiting(self, stream_id: str) -> int:
        """See `EventStreamStore.count_waiting`."""
        return len(self.waiting_in.get(stream_id, {}))

    async def streams_waiting(self) -> Collection[str]:
        """See `EventStreamStore.streams_waiting`."""
        return {stream_id for stream_id, events in self.waiting_in.items() if events}

    async def finish(self, stream_id: str, token_ids: Collection[str]) -> int:
        """See `EventStreamStore.finish`."""
        events = self.waiting_in.get(stream_id, {})
        return sum(events.pop(each, None) is not None for each in set(token_ids))

    async def backlog(self) -> Backlog:
        """See `EventStreamStore.backlog`."""
        times = [
            event.create_time
            for stream_id, events in self.waiting_in.items()
            if self.streams[stream_id].status is StreamStatus.ENABLED
            for event in events.values()
        ]
        return Backlog(len(times), min(times, default=None))

    def _add(self, stream_id: str, waiting: Sequence[WaitingEvent]) -> None:
        for each in waiting:
            kept = WaitingEvent(
                token_id=each.token_id,
                event_type=each.event_type,
                chain_id=each.chain_id,
                position=each.position,
                detail=each.detail,
                create_time=micro(each.create_time),
            )
            self.waiting_in[stream_id].setdefault(each.token_id, kept)
