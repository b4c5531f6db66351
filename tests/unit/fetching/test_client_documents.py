"""Client metadata documents over HTTPS, and servers that misbehave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.memory_stores import MemoryStores
from tests.unit.core.virtual_time import ManualClock
from tests.unit.fetching.serving import KeyServer, Reply, Resolver, authorities, serving, tls_context
from token_service.core.access import document_clients
from token_service.core.access.document_clients import DocumentClients
from token_service.core.clients.documents import MAX_DOCUMENT, DocumentRules
from token_service.core.clients.registry import ClientRegistry
from token_service.errors import ClientDocumentUnavailableError
from token_service.fetching.client_documents import RULES, ClientDocuments
from token_service.fetching.fetcher import FetchRules, HttpFetcher

HOST = "app.example"


def document(url: str, **members: object) -> bytes:
    return json.dumps({"client_id": url, "redirect_uris": ["https://app.example/cb"], **members}).encode()


@asynccontextmanager
async def https_server(tmp_path: Path) -> AsyncIterator[tuple[KeyServer, FetchRules]]:
    """Run a server for `HOST`; yield it with rules that let a fetch reach it."""
    authority = Authority("ca")
    async with serving(authority.server(HOST), tmp_path) as server:
        yield (
            server,
            FetchRules(
                allow_private=True, authorities=authorities(tmp_path, authority), max_bytes=MAX_DOCUMENT
            ),
        )


def clients(rules: FetchRules, resolver: Resolver | None = None) -> DocumentClients:
    clock = ManualClock()
    fetcher = HttpFetcher(resolver or Resolver(["127.0.0.1"]))
    registry = ClientRegistry(MemoryStores(clock).clients)
    return DocumentClients(registry, ClientDocuments(fetcher, rules), DocumentRules(), clock)


async def test_document_is_read_from_its_url(tmp_path: Path) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client.json", HOST)
        server.replies["/client.json"] = Reply(document(url, client_name="MCP app"))
        client = await clients(rules).resolve(url, "a")
    assert client is not None
    assert (client.client_id, client.client_name) == (url, "MCP app")
    ((_, headers),) = server.requests
    assert "authorization" not in headers


async def test_largest_document_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    async with https_server(tmp_path) as (server, rules):
        for path, size in (("/largest", MAX_DOCUMENT), ("/larger", MAX_DOCUMENT + 1)):
            body = document(server.url(path, HOST), padding="")
            padding = "x" * (size - len(body))
            server.replies[path] = Reply(document(server.url(path, HOST), padding=padding))
        known = clients(rules)
        assert await known.resolve(server.url("/largest", HOST), "a") is not None
        with pytest.raises(ClientDocumentUnavailableError):
            await known.resolve(server.url("/larger", HOST), "a")


async def test_redirect_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", HOST)
        server.replies["/moved"] = Reply(document(url))
        server.replies["/client"] = Reply(
            document(url), {"Location": server.url("/moved", HOST)}, "302 Found"
        )
        with pytest.raises(ClientDocumentUnavailableError) as caught:
            await clients(rules).resolve(url, "a")
    assert server.paths == ["/client"]
    assert "redirect" in caplog.text
    assert "redirect" not in str(caught.value)


@pytest.mark.parametrize("status", ["201 Created", "404 Not Found", "500 Internal Server Error"])
async def test_other_status_is_no_document(tmp_path: Path, status: str) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", HOST)
        server.replies["/client"] = Reply(document(url), status=status)
        with pytest.raises(ClientDocumentUnavailableError):
            await clients(rules).resolve(url, "a")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fd00::1", "64:ff9b::7f00:1"],
)
async def test_private_address_is_never_reached(
    tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with https_server(tmp_path) as (server, _):
        url = server.url("/client", HOST)
        server.replies["/client"] = Reply(document(url))
        resolver = Resolver([address])
        with pytest.raises(ClientDocumentUnavailableError) as caught:
            await clients(RULES, resolver).resolve(url, "a")
        assert resolver.asked == [(HOST, server.port)]
        assert server.requests == []
    assert "not a global address" in caplog.text
    assert address not in str(caught.value)


async def test_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", "other.example")
        server.replies["/client"] = Reply(document(url))
        with pytest.raises(ClientDocumentUnavailableError):
            await clients(rules).resolve(url, "a")
        assert server.requests == []


async def test_document_of_another_id_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", HOST)
        server.replies["/client"] = Reply(document(server.url("/other", HOST)))
        with pytest.raises(ClientDocumentUnavailableError):
            await clients(rules).resolve(url, "a")
    assert "client_id is not exactly the URL" in caplog.text


async def test_server_that_does_not_finish_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(document_clients, "FETCH_TIMEOUT", 0.2)
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", HOST)
        server.open.clear()
        async with asyncio.timeout(30):
            with pytest.raises(ClientDocumentUnavailableError):
                await clients(rules).resolve(url, "a")
    assert "no complete answer within 0.2 s" in caplog.text


async def test_server_that_sends_a_byte_at_a_time_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(document_clients, "FETCH_TIMEOUT", 0.3)
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        gone.set()
        writer.transport.abort()

    authority = Authority("ca")
    context = tls_context(authority.server(HOST), tmp_path)
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, authority))
    async with await asyncio.start_server(drip, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ClientDocumentUnavailableError):
            await clients(rules).resolve(f"https://{HOST}:{port}/client", "a")
        await asyncio.wait_for(gone.wait(), 30)  # the connection was closed, not left behind
    assert "no complete answer within 0.3 s" in caplog.text


async def test_cache_control_decides_the_lifetime_within_bounds(tmp_path: Path) -> None:
    async with https_server(tmp_path) as (server, rules):
        url = server.url("/client", HOST)
        found = []
        for header in ("no-store", "max-age=300", "max-age=999999999"):
            server.replies["/client"] = Reply(document(url), {"Cache-Control": header})
            source = ClientDocuments(HttpFetcher(Resolver(["127.0.0.1"])), rules)
            found.append((await source.fetch(url)).lifetime)
    assert found == [60.0, 300.0, 3600.0]
