"""The port for event streams."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from token_service.core.event_streams.stream import Backlog, EventStream, WaitingEvent
from token_service.core.events.event import AuditEvent


class EventStreamStore(Protocol):
    """The streams, their waiting events and removed subjects. Each method raises `StoreUnavailableError`.

    Audit events are written in the transaction of the change. Each stream is a consumer of the event log.
    """

    async def create(self, stream: EventStream, limit: int, events: Sequence[AuditEvent]) -> bool:
        """Insert a stream that begins with the next event of the log.

        Returns False if its client has `limit` streams. Concurrent calls do not exceed the limit.
        """
        ...

    async def get(self, stream_id: str) -> EventStream | None:
        """Return a stream."""
        ...

    async def list(self, client_id: str = "") -> Sequence[EventStream]:
        """Return the streams of a client, the oldest first; without a client those of all clients."""
        ...

    async def save(
        self,
        stream: EventStream,
        events: Sequence[AuditEvent],
        *,
        waiting: Sequence[WaitingEvent] = (),
        drop: bool = False,
        restart: bool = False,
    ) -> bool:
        """Replace a stream whose revision is one lower, and add events that wait in it.

        `drop` deletes the events that wait before. `restart` continues with the next event of the log. Returns False,
        with nothing changed, if the stream has another revision or was deleted.
        """
        ...

    async def delete(self, stream_id: str, events: Sequence[AuditEvent]) -> bool:
        """Delete a stream with all that belongs to it. Returns False if it is unknown."""
        ...

    async def verify(self, stream_id: str, event: WaitingEvent, not_after: float) -> bool:
        """Note a verification at the time of its event, and let the event wait.

        Returns False, with nothing changed, if the last verification was later than `not_after`.
        """
        ...

    async def remove_subject(self, stream_id: str, fingerprint: str, limit: int) -> bool:
        """Note a removed subject. Returns False if it is new and the stream has `limit` of them."""
        ...

    async def add_subject(self, stream_id: str, fingerprint: str) -> None:
        """Forget that a subject was removed."""
        ...

    async def removed_among(self, stream_id: str, fingerprints: Collection[str]) -> bool:
        """Tell whether one of the subjects was removed."""
        ...

    async def enqueue(
        self, stream: EventStream, known: int, through: int, waiting: Sequence[WaitingEvent]
    ) -> bool:
        """Move the place of a stream in the event log from `known` to `through`, and add events, both or none.

        Returns False if the stream is at another place. An event that waits already is not added again.
        """
        ...

    async def waiting(
        self, stream_id: str, limit: int, event_types: Collection[str] = ()
    ) -> Sequence[WaitingEvent]:
        """Return up to `limit` waiting events in order; `event_types`: only these."""
        ...

    async def count_waiting(self, stream_id: str) -> int:
        """Return the number of waiting events."""
        ...

    async def streams_waiting(self) -> Collection[str]:
        """Return the ids of the streams in which events wait."""
        ...

    async def finish(self, stream_id: str, token_ids: Collection[str]) -> int:
        """Delete waiting events that the receiver has; return how many."""
        ...

    async def backlog(self) -> Backlog:
        """Count the events that wait in enabled streams."""
        ...
