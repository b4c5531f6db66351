"""An HTTP/2 client that misbehaves in ways gRPC's client does not: calls without a message, unfinished messages,
resets, unread answers.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

_TIMEOUT = 60.0


@dataclass
class Answer:
    """The answer to one call so far."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    reset: int | None = None
    """The error code with which the server reset the stream."""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int | None:
        """The gRPC status code, as a number."""
        code = self.headers.get("grpc-status")
        return int(code) if code is not None else None

    @property
    def reason(self) -> str:
        """The reason in the ErrorInfo."""
        info = ErrorInfo()
        return info.reason if self._unpack(info) else ""

    @property
    def retry_after(self) -> float | None:
        """Seconds in the RetryInfo."""
        retry = RetryInfo()
        return retry.retry_delay.ToTimedelta().total_seconds() if self._unpack(retry) else None

    def _unpack(self, message: ErrorInfo | RetryInfo) -> bool:
        import base64

        details = self.headers.get("grpc-status-details-bin", "")
        status = Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4)))
        return any(detail.Unpack(message) for detail in status.details)


class RawConnection:
    """One connection, as an async context manager."""

    def __init__(self, address: str, *, window: int | None = None, tls: ssl.SSLContext | None = None) -> None:
        """`window`: bytes of each answer that the server may send; None: HTTP/2's default, updated on reading."""
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._tls = tls
        self._window = window
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        if window is not None:
            initial = {SettingCodes.INITIAL_WINDOW_SIZE: window}
            self._h2.local_settings = Settings(client=True, initial_values=initial)
        self._moved = asyncio.Event()
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = asyncio.Event()
        self.pings_answered = 0

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            self._host, self._port, ssl=self._tls, server_hostname="localhost" if self._tls else None
        )
        self._h2.initiate_connection()
        self.flush()
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    @property
    def max_streams(self) -> int:
        """Number of concurrent streams that the server allows."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def open_streams(self) -> int:
        """Number of unfinished calls."""
        return sum(not answer.over.is_set() for answer in self.answers.values())

    def ignore_max_streams(self) -> None:
        """Ignore the server's limit on streams from now on."""
        self._h2.remote_settings.update({SettingCodes.MAX_CONCURRENT_STREAMS: 2**31 - 1})
        self._h2.remote_settings.acknowledge()

    def begin(self, path: str, *, end: bool = False, headers: Iterable[tuple[str, str]] = ()) -> int:
        """Send the headers of a call and return its stream."""
        stream = self._h2.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self._h2.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "https" if self._tls else "http"),
                (":path", path),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                *headers,
            ],
            end_stream=end,
        )
        return stream

    async def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send a part of a call's body, as the windows allow."""
        at = 0
        while at < len(data):
            size = min(
                self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size, len(data) - at
            )
            if size <= 0:
                self._moved.clear()
                self.flush()
                await asyncio.wait_for(self._moved.wait(), _TIMEOUT)
                continue
            self._h2.send_data(stream, data[at : at + size], end_stream=end and at + size == len(data))
            at += size
        self.flush()
        await self._writer.drain()

    async def call(self, path: str, request: bytes) -> int:
        """Send a complete call and return its stream."""
        stream = self.begin(path)
        await self.send(stream, message(request), end=True)
        return stream

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self._h2.reset_stream(stream, 8)
        self.answers[stream].over.set()

    def ping(self) -> None:
        """Send a PING."""
        self._h2.ping(b"12345678")
        self.flush()

    def flush(self) -> None:
        """Send buffered frames."""
        self._writer.write(self._h2.data_to_send())

    async def over(self, stream: int) -> Answer:
        """Wait for the end of a call and return its answer."""
        await asyncio.wait_for(self.answers[stream].over.wait(), _TIMEOUT)
        return self.answers[stream]

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 20):
                for event in self._h2.receive_data(data):
                    self._take(event)
                self.flush()
                self._moved.set()
        except (OSError, ProtocolError):
            pass
        finally:
            self.closed.set()
            self._moved.set()
            for answer in self.answers.values():
                answer.over.set()

    def _take(self, event: object) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            self.answers[event.stream_id].headers.update(event.headers or ())  # type: ignore[arg-type]  # decoded, as configured
        elif isinstance(event, DataReceived):
            self.answers[event.stream_id].data += event.data or b""
            if self._window is None and event.flow_controlled_length:
                with suppress(ProtocolError):
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.answers[event.stream_id].over.set()
        elif isinstance(event, StreamReset):
            answer = self.answers[event.stream_id]
            answer.reset = int(event.error_code or 0)
            answer.over.set()
        elif isinstance(event, ConnectionTerminated):
            self.goaway = int(event.error_code or 0)
        elif isinstance(event, PingAckReceived):
            self.pings_answered += 1


def message(data: bytes) -> bytes:
    """Return a gRPC message with its prefix."""
    return b"\0" + struct.pack(">I", len(data)) + data
