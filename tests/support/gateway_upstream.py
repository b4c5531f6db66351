"""The applications behind a proxy: one server for HTTP/1.1, WebSockets and HTTP/2 without TLS, and one for gRPC.

Both run in threads of the tests and keep the requests that reached them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True)
class Seen:
    """A request that reached the application."""

    version: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order of the request."""
    body: bytes = b""

    def values(self, name: str) -> list[str]:
        """Return the values of a header."""
        return [value for each, value in self.headers if each == name]

    def answer(self) -> bytes:
        """Return the response body of ordinary paths."""
        return json.dumps({"target": self.target, "bytes": len(self.body)}).encode()


class Upstream:
    """The server for HTTP.

    It answers `200` with JSON. Below a path with `/stream` the response goes on until `push(b"")`; an upgrade to a WebSocket is
    accepted, and its text frames are returned.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.keep = True
        """Whether requests are kept."""
        self._streams: set[asyncio.Queue[bytes]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20), self._loop
        ).result(30)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def push(self, data: bytes) -> None:
        """Send data in every open stream; empty: end them."""
        self._loop.call_soon_threadsafe(self._push, data)

    def _push(self, data: bytes) -> None:
        for queue in self._streams:
            queue.put_nowait(data)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head == _PREFACE:
                    await self._serve_http2(head, reader, writer)
                    return
                await self._serve_one(head, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, version = first.split(" ", 2)
        pairs = [line.split(":", 1) for line in lines]
        headers = tuple((name.lower(), value.strip()) for name, value in pairs)
        found = dict(headers)
        body = await _body(found, reader)
        seen = self._note(Seen(version, method, target, headers, body))
        if found.get("upgrade", "").lower() == "websocket":
            key = base64.b64encode(
                hashlib.sha1(found["sec-websocket-key"].encode() + _WEBSOCKET, usedforsecurity=False).digest()
            )
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + key + b"\r\n\r\n"
            )
            while True:
                writer.write(frame(await read_frame(reader)))
        if "/stream" in target:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            queue: asyncio.Queue[bytes] = asyncio.Queue()
            self._streams.add(queue)
            try:
                while data := await queue.get():
                    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                    await writer.drain()
            finally:
                self._streams.discard(queue)
            writer.write(b"0\r\n\r\n")
        else:
            answer = seen.answer()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % len(answer)
            )
            writer.write(answer if method != "HEAD" else b"")
        await writer.drain()

    async def _serve_http2(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        requests: dict[int, tuple[list[tuple[str, str]], list[bytes]]] = {}
        data = head
        while data:
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    pairs: Any = event.headers
                    requests[event.stream_id] = list(pairs), []
                elif isinstance(event, DataReceived):
                    requests[event.stream_id][1].append(event.data or b"")
                    if event.flow_controlled_length:
                        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded):
                    headers, parts = requests.pop(event.stream_id)
                    found = dict(headers)
                    plain = tuple(pair for pair in headers if not pair[0].startswith(":"))
                    seen = self._note(
                        Seen("HTTP/2", found[":method"], found[":path"], plain, b"".join(parts))
                    )
                    answer = seen.answer()
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, answer, end_stream=True)
            writer.write(connection.data_to_send())
            data = await reader.read(1 << 16)

    def _note(self, seen: Seen) -> Seen:
        if self.keep:
            self.seen.append(seen)
        return seen


class GrpcUpstream:
    """A grpcio server with `/orders.v1.Orders/Get`, which returns its request, and `/orders.v1.Orders/Watch`, a stream.

    A stream sends `first`, and then what `push` says.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._more = threading.Semaphore(0)
        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("orders.v1.Orders", handlers),)
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._more.release()
        self._server.stop(0).wait(30)

    def push(self) -> None:
        """Send one message in the stream."""
        self._more.release()

    def _get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        pairs = tuple((name, str(value)) for name, value in context.invocation_metadata())
        self.seen.append(Seen("gRPC", "POST", "/orders.v1.Orders/Get", pairs, request))
        return request

    def _watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        while context.is_active():
            if self._more.acquire(timeout=1):
                yield b"more"


async def _body(headers: dict[str, str], reader: asyncio.StreamReader) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        parts = []
        while size := int(await reader.readuntil(b"\r\n"), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", 0)))


def frame(text: bytes, mask: bytes = b"") -> bytes:
    """Return a WebSocket frame with a short text. Clients give a mask of 4 bytes (RFC 6455, section 5.2)."""
    assert len(text) < 126
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)) if mask else text
    return bytes((0x81, len(text) | (0x80 if mask else 0))) + mask + masked


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return the text of the next short frame of a client."""
    _, length = await reader.readexactly(2)
    mask = await reader.readexactly(4)
    data = await reader.readexactly(length & 0x7F)
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
