"""The part of HTTP/2 (RFC 9113) that loads a gRPC server with unary calls at a tenth of the cost of a gRPC client.

A load generator slower than the servers makes all of them look alike, and one that takes their processor makes all of
them slow. This one spends about 15 us a call; a grpc.aio client spends as much as the server.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import Callable, Mapping
from typing import cast

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_HEADER_TABLE = struct.pack(">HI", 1, 0)
_WINDOW = 65_535
_OUR_WINDOW = 2**30


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(index: int, name: bytes, value: bytes) -> bytes:
    """Encode a header field that no table stores (RFC 7541, section 6.2.2). `index`: its name in the static table."""
    if not index:
        return b"\x00" + bytes((len(name),)) + name + _length(value) + value
    prefix = bytes((index,)) if index < 15 else bytes((15, index - 15))
    return prefix + _length(value) + value


def _length(value: bytes) -> bytes:
    """Encode the length of a text (RFC 7541, section 5.1, with a prefix of 7 bits)."""
    if len(value) < 127:
        return bytes((len(value),))
    rest = len(value) - 127
    assert rest < 128
    return bytes((127, rest))


def _headers(method: str, metadata: Mapping[str, str]) -> bytes:
    return b"".join(
        (
            b"\x83\x86",  # :method POST, :scheme http
            _literal(4, b":path", method.encode()),
            _literal(1, b":authority", b"localhost"),
            _literal(31, b"content-type", b"application/grpc"),
            _literal(0, b"te", b"trailers"),
            *(_literal(0, name.encode(), value.encode()) for name, value in metadata.items()),
        )
    )


class Connection(asyncio.Protocol):
    """Keeps `concurrency` calls of one method active while it is `running`.

    `take` returns the next request with a tag, or None if no request is ready. `give` receives the tag, the reply
    (None for a failed call) and the seconds the call took.
    """

    def __init__(
        self,
        method: str,
        metadata: Mapping[str, str],
        concurrency: int,
        take: Callable[[], tuple[bytes, object] | None],
        give: Callable[[object, bytes | None, float], None],
    ) -> None:
        self._headers = _headers(method, metadata)
        self._take = take
        self._give = give
        self._wanted = concurrency
        self._calls: dict[int, tuple[object, float]] = {}
        self._replies: dict[int, bytes] = {}
        self._buffer = b""
        self._next_stream = 1
        self._send_window = _WINDOW
        self._received = 0
        self._transport: asyncio.WriteTransport | None = None
        self.running = False

    @property
    def idle(self) -> bool:
        """Whether no call is active."""
        return not self._calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._write(
            _PREFACE + _frame(_SETTINGS, 0, 0, _NO_HEADER_TABLE) + self._window_update(_OUR_WINDOW - _WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if self._calls:
            self._die("the server closed the connection")

    def start(self) -> None:
        """Start to send calls."""
        self.running = True
        self._pump()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, end, now = 0, len(data), time.perf_counter()
        while end - at >= 9:
            length = int.from_bytes(data[at : at + 3], "big")
            after = at + 9 + length
            if after > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == _DATA:
                stream = int.from_bytes(data[at + 5 : at + 9], "big")
                self._received += length
                if stream in self._replies:
                    self._replies[stream] += data[at + 9 : after]
                else:
                    self._replies[stream] = data[at + 9 : after]
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    stream = int.from_bytes(data[at + 5 : at + 9], "big")
                    tag, since = self._calls.pop(stream)
                    self._wanted += 1
                    reply = self._replies.pop(stream, None)
                    self._give(tag, None if reply is None else reply[5:], now - since)
            elif kind == _WINDOW_UPDATE:
                if data[at + 5 : at + 9] == b"\0\0\0\0":
                    self._send_window += int.from_bytes(data[at + 9 : at + 13], "big")
            elif kind == _SETTINGS:
                if not flags & _ACK:
                    self._write(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _PING:
                if not flags & _ACK:
                    self._write(_frame(_PING, _ACK, 0, data[at + 9 : after]))
            elif kind in {_GOAWAY, _RST_STREAM}:
                self._die(f"the server sent a frame of type {kind}: {data[at + 9 : after]!r}")
            at = after
        self._buffer = data[at:]
        if self._received > _OUR_WINDOW // 2:
            self._write(self._window_update(self._received))
            self._received = 0
        if self.running:
            self._pump()

    def _pump(self) -> None:
        out: list[bytes] = []
        now = time.perf_counter()
        headers = self._headers
        while self._wanted:
            taken = self._take() if self._send_window > _WINDOW // 4 else None
            if taken is None:
                break
            request, tag = taken
            stream = self._next_stream
            self._next_stream += 2
            self._wanted -= 1
            self._send_window -= len(request) + 5
            self._calls[stream] = tag, now
            out += (
                _frame(_HEADERS, _END_HEADERS, stream, headers),
                _frame(_DATA, _END_STREAM, stream, b"\0" + len(request).to_bytes(4, "big") + request),
            )
        if out:
            self._write(b"".join(out))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    @staticmethod
    def _window_update(size: int) -> bytes:
        return _frame(_WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big"))

    @staticmethod
    def _die(why: str) -> None:
        print(f"load: {why}", flush=True)
        os._exit(1)
