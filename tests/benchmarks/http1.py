"""The part of HTTP/1.1 (RFC 9112) that loads a server with POST requests at a small part of the cost of a client."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import cast


class Connection(asyncio.Protocol):
    """Keeps one request active while it is `running`. Responses must have a Content-Length.

    `header` is the request line and the header fields except Content-Length, each with its line end. `take` returns the
    next body with a tag, or None if no body is ready. `give` receives the tag, the body of the response (None unless its
    status is 200) and the seconds the request took.
    """

    def __init__(
        self,
        header: bytes,
        take: Callable[[], tuple[bytes, object] | None],
        give: Callable[[object, bytes | None, float], None],
    ) -> None:
        self._header = header
        self._take = take
        self._give = give
        self._call: tuple[object, float] | None = None
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None
        self.running = False

    @property
    def idle(self) -> bool:
        """Whether no request is active."""
        return self._call is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.running or self._call is not None:
            _die("the server closed the connection")

    def start(self) -> None:
        """Start to send requests."""
        self.running = True
        if self._call is None:
            self._send()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            self._buffer = data
            return
        self._buffer = b""
        assert self._call is not None
        tag, since = self._call
        self._call = None
        good = head.startswith(b"HTTP/1.1 200 ")
        if not good:
            print(f"load: {head.decode()} {body.decode()[:500]}", flush=True)
        self._give(tag, body if good else None, time.perf_counter() - since)
        if self.running:
            self._send()

    def _send(self) -> None:
        taken = self._take()
        if taken is None:
            return
        body, tag = taken
        self._call = tag, time.perf_counter()
        assert self._transport is not None
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (self._header, len(body), body))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    _die(f"the response has no Content-Length: {head!r}")
    return 0


def _die(why: str) -> None:
    print(f"load: {why}", flush=True)
    os._exit(1)
