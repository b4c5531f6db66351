"""Bodies that are too long, too slow or never end take bounded memory and time, on real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.deadline import eventually
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.web.connections import ConnectionLimits
from token_service.web.edge import RequestLimits
from token_service.web.oauth.parameters import MAX_BODY
from token_service.web.server import HttpServer

HEAD = b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


@asynccontextmanager
async def serving(
    *, limits: RequestLimits | None = None, connections: ConnectionLimits | None = None
) -> AsyncIterator[tuple[OAuthApp, HttpServer]]:
    app = await OAuthApp.start(limits=limits)
    async with HttpServer("127.0.0.1", 0, app.app, connections=connections) as server:
        yield app, server
    await app.close()


async def opened(server: HttpServer, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    length = next(
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length")
    )
    return int(head.split()[1]), json.loads(await asyncio.wait_for(reader.readexactly(length), 60))


async def test_endless_body_is_answered_at_the_limit_and_its_connection_ends() -> None:
    async with serving(connections=ConnectionLimits(header_timeout=2.0)) as (app, server):
        reader, writer = await opened(server, HEAD + b"Content-Length: 10000000000\r\n\r\na=")
        writer.write(b"b" * MAX_BODY)  # the rest never comes
        status, body = await response(reader)
        assert (status, body["error"], body["error_description"]) == (
            400,
            "invalid_request",
            f"body: is longer than {MAX_BODY} bytes",
        )
        assert app.edge.running == 0
        writer.write(b"b" * 100_000)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        assert len(server.connections) == 0
        writer.close()


async def test_body_that_does_not_arrive_is_ended_at_the_deadline() -> None:
    async with serving(limits=RequestLimits(request_deadline=0.1)) as (app, server):
        reader, writer = await opened(server, HEAD + b"Content-Length: 100\r\n\r\ngrant_type=")
        status, body = await response(reader)
        assert (status, body["error"], body["reason"]) == (
            504,
            "temporarily_unavailable",
            "DEADLINE_EXCEEDED",
        )
        assert app.edge.running == 0
        writer.close()


async def test_client_that_leaves_in_the_middle_of_its_body_leaves_nothing() -> None:
    async with serving() as (app, server):
        _, writer = await opened(server, HEAD + b"Content-Length: 100\r\n\r\ngrant_type=")
        await eventually(lambda: app.edge.running == 1)
        writer.close()
        await eventually(lambda: app.edge.running == 0 and len(server.connections) == 0)


async def test_chunked_body_has_the_same_limit() -> None:
    async with serving(connections=ConnectionLimits(header_timeout=2.0)) as (_, server):
        chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
        reader, writer = await opened(server, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5)
        status, body = await response(reader)
        assert (status, body["error_description"]) == (400, f"body: is longer than {MAX_BODY} bytes")
        writer.close()


async def test_two_lengths_are_refused() -> None:
    async with serving() as (_, server):
        lengths = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\na=1"
        reader, writer = await opened(server, HEAD + lengths)
        assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 400")
        writer.close()
