"""An HTTP server on loopback that records the forms it is sent, and can refuse, hang or be away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl


@dataclass(frozen=True)
class ReceivedForm:
    """A request with a form."""

    path: str
    headers: dict[str, str]
    form: dict[str, str]


class FormReceiver:
    """Answers POST requests with `status` and `body`."""

    def __init__(self) -> None:
        self.received: list[ReceivedForm] = []
        self.status = "200 OK"
        self.body = b""
        self.open = asyncio.Event()
        """While it is not set, requests are received but get no answer."""
        self.open.set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def listen(self) -> None:
        """Listen at the same port as before."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def kill(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    def url(self, path: str = "/logout") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.received]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(
                ReceivedForm(head[0].split(" ")[1], headers, dict(parse_qsl(body.decode(), True)))
            )
            await self.open.wait()
            answer = f"HTTP/1.1 {self.status}\r\nContent-Length: {len(self.body)}\r\n\r\n"
            writer.write(answer.encode() + self.body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
