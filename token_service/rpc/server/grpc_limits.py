"""How much one gRPC server takes on, of all callers, of one caller, and of one connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_SEND_BYTES: Final = 16 * 1024 * 1024
_MAX_METADATA_BYTES: Final = 16 * 1024
_MAX_PENDING: Final = 20_000
"""Calls that have arrived and are not taken up yet, of all connections. gRPC refuses others at random beyond it, those
of honest callers as well: more than a connection may have by far, at 20 KiB each.
"""
_ENDED_STREAMS: Final = 300
"""Streams of a connection that have ended, or were reset, and are not cleaned up yet."""
_LONGEST_STREAM: Final = 1.2
"""By which factor a stream may be older than its age limit says: the limit varies."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """The limits. Times in seconds."""

    max_message_bytes: int = 5 * 1024 * 1024
    """The largest request; gRPC refuses a larger one with RESOURCE_EXHAUSTED before anybody looks at it. A
    batch of 256 tokens of 16 KiB fits.
    """
    max_concurrent_calls: int = 1000
    """Unary calls at a time; more are refused with OVERLOADED."""
    max_calls_per_caller: int = 500
    """Unary calls of one caller at a time, likewise."""
    max_waits: int = 2000
    """Calls that wait for subscribers to confirm, likewise. They do not count as calls."""
    max_waits_per_caller: int = 500
    max_streams: int = 5000
    """Revocation streams at a time; more are refused with OVERLOADED."""
    max_streams_per_caller: int = 2500
    max_unread_bytes_per_caller: int = 32 * 1024 * 1024
    """Bytes of large answers that a caller was sent and has not read; more are refused with OVERLOADED."""
    reads_per_caller: int = 16
    """Requests of one caller that are received at a time, whole ones apart. The others wait for their turn."""
    request_timeout: float = 10.0
    """How long a request may take to arrive."""
    stream_max_age: float = 3600.0
    """How long a stream lives, give or take a fifth."""
    stream_max_stall: float = 30.0
    """How long a reader may leave a message unread."""
    ring_capacity: int = 50_000
    """Entries of the log kept ready for streams that are a little behind."""
    default_deadline: float = 30.0
    """For calls that come without one."""
    max_deadline: float = 90.0
    """For calls that come with a later one."""
    max_connections: int = 10_000
    """Connections; more are closed at once."""
    connection_streams: int = 100
    """HTTP/2 streams of one connection, calls of any kind. A client keeps further calls back."""
    connection_max_age: float = 3600.0
    """How long a connection takes new calls, give or take a tenth. It ends once its calls have, streams included."""
    connection_max_idle: float = 300.0
    """How long a connection without calls stays open."""
    handshake_timeout: float = 10.0
    """How long a connection may take until HTTP/2 has begun."""

    @property
    def connection_grace(self) -> float:
        """How long the calls of a connection may go on after it has stopped taking new ones: until its youngest
        stream has ended in good order.
        """
        return self.stream_max_age * _LONGEST_STREAM + self.stream_max_stall + self.max_deadline

    def options(self) -> list[tuple[str, int]]:
        """The options of gRPC that say so."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", _MAX_SEND_BYTES),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", self.connection_streams),
            # Streams that have ended count for as long as gRPC has not cleaned up after them. Without headroom, a
            # burst on a connection that is within its limit is refused in part.
            ("grpc.http2.max_deallocating_streams", _ENDED_STREAMS),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_connection_age_ms", _milliseconds(self.connection_max_age)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.connection_grace)),
            ("grpc.max_connection_idle_ms", _milliseconds(self.connection_max_idle)),
            ("grpc.server_handshake_timeout_ms", _milliseconds(self.handshake_timeout)),
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING + 1),
            # Measuring the bandwidth raises the window of each stream to megabytes, which a call may fill before
            # its caller is known. A message that is being read gets all the window it needs in any case.
            ("grpc.http2.bdp_probe", 0),
            # Validators may ping every 10 s, with a margin for jitter, even while they wait for nothing.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # A reader whose machine has vanished is noticed, and its stream ended, within a minute.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), 2**31 - 1)
