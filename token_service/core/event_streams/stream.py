"""An event stream, and the events that wait in it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MAX_STREAMS: Final = 10
"""Streams of one client."""
MAX_WAITING: Final = 1000
"""Events that wait in one stream. Further ones stay in the event log."""
MAX_REMOVED_SUBJECTS: Final = 10_000
"""Subjects that a receiver has removed from one stream."""
MIN_VERIFICATION_INTERVAL: Final = 60
"""Seconds between two verification events that a receiver asks for."""


class DeliveryMethod(StrEnum):
    """The way of the events to the receiver."""

    PUSH = "urn:ietf:rfc:8935"
    POLL = "urn:ietf:rfc:8936"


class StreamStatus(StrEnum):
    """The status of a stream (SSF 1.0, section 8.1.2)."""

    ENABLED = "enabled"
    PAUSED = "paused"
    """Nothing is sent; the events are held."""
    DISABLED = "disabled"
    """Nothing is sent, and nothing is held."""


class EventStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream. Times are in seconds since the Unix epoch."""

    stream_id: str
    client_id: str
    """The receiver, which is the `aud` of its events."""
    method: DeliveryMethod
    endpoint_url: str = ""
    """The URL to push to; empty: the receiver polls."""
    authorization: bytes = b""
    """The wrapped header `Authorization` of a push; empty: none."""
    wrapping_key_id: str = ""
    events_requested: tuple[str, ...] = ()
    description: str = ""
    status: StreamStatus = StreamStatus.ENABLED
    reason: str = ""
    """Why the stream has its status."""
    create_time: float
    revision: int = 1
    """Grows by one with every change."""

    @property
    def consumer(self) -> str:
        """The name of the stream among the consumers of the event log."""
        return f"ssf:{self.stream_id}"

    def __repr__(self) -> str:
        return f"<EventStream {self.stream_id} of {self.client_id}>"


class WaitingEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that waits in a stream until the receiver has it.

    It names its row in the audit trail and copies nothing of it, so that an erasure reaches it, too.
    """

    token_id: str
    """The `jti`, which stays the same."""
    event_type: str
    chain_id: str = ""
    """Empty: the event is about the stream itself."""
    position: int = 0
    detail: str = ""
    """JSON: the members of an event about the stream itself."""
    create_time: float = 0.0


class Backlog(msgspec.Struct, frozen=True):
    """The events that wait in all streams that are enabled."""

    count: int = 0
    oldest: float | None = None
    """The time at which the oldest one began to wait; None: none waits."""
