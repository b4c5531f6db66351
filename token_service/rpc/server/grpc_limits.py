"""Limits of one gRPC server: in total, for each caller, and for each connection.

`edge` enforces the limits of calls, `rpc.stream.feed` those of streams. Settings may replace the defaults here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_SEND_BYTES: Final = 16 * 1024 * 1024
_MAX_METADATA_BYTES: Final = 16 * 1024
_MAX_PENDING: Final = 20_000
"""Calls of all connections that have arrived and are not yet accepted, at 20 KiB each. Beyond the limit gRPC refuses
calls at random, honest callers' too. The limit is far above what one connection may have.
"""
_ENDED_STREAMS: Final = 300
"""Ended or reset streams of a connection that gRPC has not cleaned up yet."""
_LONGEST_STREAM: Final = 1.2
"""Factor by which a stream may exceed its age limit, because of jitter."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """The limits. Times in seconds."""

    max_message_bytes: int = 5 * 1024 * 1024
    """Largest request; gRPC refuses a larger one with RESOURCE_EXHAUSTED before any handler runs. A batch of 256
    tokens of 16 KiB fits.
    """
    max_concurrent_calls: int = 1000
    """Concurrent unary calls; more are refused with OVERLOADED."""
    max_calls_per_caller: int = 500
    """Concurrent unary calls of one caller; more are refused with OVERLOADED."""
    max_waits: int = 2000
    """Concurrent calls that wait for subscribers to confirm; more are refused with OVERLOADED. They do not count as
    unary calls.
    """
    max_waits_per_caller: int = 500
    max_streams: int = 5000
    """Concurrent revocation streams; more are refused with OVERLOADED."""
    max_streams_per_caller: int = 2500
    max_unread_bytes_per_caller: int = 32 * 1024 * 1024
    """Bytes of large responses sent to a caller and not yet read; more are refused with OVERLOADED."""
    reads_per_caller: int = 16
    """Requests of one caller that are received concurrently, without complete ones. Further requests wait."""
    request_timeout: float = 10.0
    """Time within which a request must arrive."""
    stream_max_age: float = 3600.0
    """Lifetime of a stream, plus or minus a fifth."""
    stream_max_stall: float = 30.0
    """Time a reader may leave a message unread."""
    ring_capacity: int = 50_000
    """Log entries kept in memory for streams that are slightly behind."""
    default_deadline: float = 30.0
    """Deadline of calls that have none."""
    max_deadline: float = 90.0
    """Deadline of calls that ask for a later one."""
    max_connections: int = 10_000
    """Connections; more are closed immediately."""
    connection_streams: int = 100
    """HTTP/2 streams of one connection, of any kind of call. A client queues further calls."""
    connection_max_age: float = 3600.0
    """Time a connection accepts new calls, plus or minus a tenth. It closes once its calls and streams have ended."""
    connection_max_idle: float = 300.0
    """Time a connection without calls stays open."""
    handshake_timeout: float = 10.0
    """Time within which a connection must complete its handshakes, up to HTTP/2."""

    @property
    def connection_grace(self) -> float:
        """Time the calls of a connection may continue after it stops accepting new ones: enough for its youngest
        stream to end regularly.
        """
        return self.stream_max_age * _LONGEST_STREAM + self.stream_max_stall + self.max_deadline

    def options(self) -> list[tuple[str, int]]:
        """Return the limits as gRPC channel arguments."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", _MAX_SEND_BYTES),
            ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
            ("grpc.max_concurrent_streams", self.connection_streams),
            # Ended streams count until gRPC has cleaned them up. Without headroom, gRPC refuses part of a burst on a
            # connection that is within its limit.
            ("grpc.http2.max_deallocating_streams", _ENDED_STREAMS),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.max_connection_age_ms", _milliseconds(self.connection_max_age)),
            ("grpc.max_connection_age_grace_ms", _milliseconds(self.connection_grace)),
            ("grpc.max_connection_idle_ms", _milliseconds(self.connection_max_idle)),
            ("grpc.server_handshake_timeout_ms", _milliseconds(self.handshake_timeout)),
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING + 1),
            # Bandwidth probing raises the window of each stream to megabytes, which a call may fill before its caller
            # is known. A message that is being read gets the window it needs in any case.
            ("grpc.http2.bdp_probe", 0),
            # Clients may ping every 10 s, with a margin for jitter, even without calls.
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            # Keepalive detects a reader whose machine has vanished, and ends its stream, within a minute.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]


def _milliseconds(seconds: float) -> int:
    return min(round(seconds * 1000), 2**31 - 1)
