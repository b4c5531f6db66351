"""A network that a test can cut: a TCP proxy in front of a server."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.support.ports import free_port, release_port

_CHUNK = 65536


class Proxy:
    """Forwards connections to `host:port` until told otherwise."""

    def __init__(self, upstream: str) -> None:
        self.lead_to(upstream)
        self._port = free_port()
        self._open = True
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        release_port(self._port)

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        return f"127.0.0.1:{self._port}"

    def lead_to(self, upstream: str) -> None:
        """Forward new connections to this `host:port`. Existing connections keep their server."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))

    def cut(self) -> None:
        """Reset existing connections and refuse new ones."""
        self._open = False
        self.reset()

    def hold(self) -> None:
        """Keep connections open but deliver no data before `heal`. No data is lost."""
        self._flowing.clear()

    def reset(self) -> None:
        """Reset existing connections and accept new ones."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def slow(self, seconds: float) -> None:
        """Delay each piece of data by `seconds`."""
        self._delay = seconds

    def heal(self) -> None:
        """Forward everything again, beginning with the held data."""
        self._open = True
        self._delay = 0.0
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if self._open:
                with suppress(OSError):
                    await self._forward(reader, writer)
        except asyncio.CancelledError:
            pass  # the test ends; `asyncio.start_server` would report it
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(*self._upstream)
        self._writers.add(their_writer)
        try:
            ways = [
                asyncio.ensure_future(self._pump(reader, their_writer)),
                asyncio.ensure_future(self._pump(their_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers.discard(their_writer)
            their_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: deque[bytes] = deque()
        due = 0.0
        while data := await reader.read(_CHUNK):
            await self._flowing.wait()
            if self._delay or late:
                # Keep the order of the data, even if the delay has changed since.
                late.append(data)
                due = max(loop.time() + self._delay, due)
                loop.call_at(due, lambda: writer.write(late.popleft()))
            else:
                writer.write(data)
                await writer.drain()
