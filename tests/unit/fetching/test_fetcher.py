from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.support.certificates import Authority
from tests.support.deadline import eventually
from tests.support.raw_http_server import RawHttpServer, Respond, answer, send
from tests.support.traced import Exported
from tests.unit.fetching.serving import Reply, Resolver, authorities, key_set, serving
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import Answer, FetchRules, HttpFetcher
from token_service.telemetry.spans import active_ids
from token_service.telemetry.trace_context import TraceParent

PRIVATE = FetchRules(allow_private=True)
GLOBAL = "93.184.216.34"
_HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def raw_server(respond: Respond) -> AsyncIterator[RawHttpServer]:
    """Run a server whose end does not block the loop, because the loop closes the connections."""
    server = RawHttpServer(respond).__enter__()
    try:
        yield server
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def get(url: str, rules: FetchRules = PRIVATE) -> Answer:
    return await HttpFetcher().get(url, rules)


async def test_answer_has_the_body_and_the_headers_of_its_age() -> None:
    async with serving() as server:
        server.publish("a", Cache_Control="max-age=300", Age="7", ETag="x")
        assert await get(server.url()) == Answer(key_set("a"), "max-age=300", "7")
        ((path, headers),) = server.requests
    assert (path, headers["host"]) == ("/jwks", f"127.0.0.1:{server.port}")
    assert (headers["accept-encoding"], headers["connection"]) == ("identity", "close")
    assert "authorization" not in headers


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_fetch_passes_the_trace_of_its_call_on(ratio: float) -> None:
    exported = Exported(ratio)
    parent = TraceParent(0xA1, 0xB2, True, "vendor=1")
    async with serving() as server:
        server.publish("a")
        with exported.tracer.call("call", {}, parent):
            ids = active_ids()
            await get(server.url())
        await get(server.url())
        (_, sent), (_, after) = server.requests
        port = server.port
    assert ids is not None
    assert "traceparent" not in after
    assert sent["tracestate"] == "vendor=1"
    if not ratio:
        assert sent["traceparent"] == f"00-{ids[0]}-{ids[1]}-00"
        return
    fetch = exported.named("GET")
    assert sent["traceparent"] == f"00-{ids[0]}-{fetch.context.span_id:016x}-01"
    assert fetch.parent.span_id == int(ids[1], 16)
    assert dict(fetch.attributes) == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
    }


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 2\r\n\r\n{}",
        b"Content-Length: 2\r\n\r\n{} and more",
        b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
        b"\r\n{}",
    ],
)
async def test_body_is_read_in_every_framing(framed: bytes) -> None:
    async with raw_server(send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + _HEAD + framed)) as server:
        assert (await get(server.url)).body == b"{}"


BROKEN = {
    "nothing": b"",
    "no status line": b'{"keys":[]}',
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a bad version": b"HTCPCP/1.0 200 OK\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a long status line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "a long header": _HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "two lengths": _HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a cut body": _HEAD + b'Content-Length: 100\r\n\r\n{"keys"',
    "a cut chunk": _HEAD + b'Transfer-Encoding: chunked\r\n\r\n400\r\n{"keys"',
    "a chunk without a size": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a compressed body": _HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a refusal": b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_other_answer_is_a_failed_fetch(data: bytes) -> None:
    async with raw_server(send(data)) as server:
        with pytest.raises(FetchError):
            await get(server.url)
        assert server.requests == 1


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_redirect_is_not_followed(status: str) -> None:
    async with serving() as server:
        server.publish("a", path="/moved")
        server.replies["/jwks"] = Reply(key_set("b"), {"Location": server.url("/moved")}, status)
        with pytest.raises(FetchError, match=rf"a redirect \({status[:3]}\), which is not followed"):
            await get(server.url())
        assert server.paths == ["/jwks"]


async def test_document_of_the_largest_size_is_read_and_a_larger_one_refused() -> None:
    async with raw_server(answer(b" " * MAX_DOCUMENT_BYTES)) as server:
        assert len((await get(server.url)).body) == MAX_DOCUMENT_BYTES
        server.respond = answer(b" " * (MAX_DOCUMENT_BYTES + 1))
        with pytest.raises(FetchError, match=f"a document of more than {MAX_DOCUMENT_BYTES} bytes"):
            await get(server.url)


ENDLESS = {
    "the body": (_HEAD + b"\r\n", b" " * 65536),
    "the body in chunks": (
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + b" " * 65536 + b"\r\n",
    ),
    "single bytes in chunks": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10_000),
    "headers": (_HEAD, b"X: y\r\n" * 10_000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
}


@pytest.mark.parametrize(("start", "again"), ENDLESS.values(), ids=ENDLESS)
async def test_endless_answer_is_cut_off(start: bytes, again: bytes) -> None:
    async with raw_server(send(b"")) as server:
        server.respond = lambda connection: server.drip(connection, start, again, 0)
        with pytest.raises(FetchError):
            await get(server.url)


async def test_private_address_is_refused_before_a_connection() -> None:
    async with serving() as server:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(FetchError, match="which is not a global address"):
                await HttpFetcher().get(f"https://{host}:{server.port}/jwks", FetchRules())
        with pytest.raises(FetchError, match="the scheme is not https"):
            await HttpFetcher().get(server.url(), FetchRules())
        assert server.requests == []


async def test_http_to_another_machine_is_refused_even_if_private_addresses_are_allowed() -> None:
    async with serving() as server:
        with pytest.raises(FetchError, match="http is allowed only for loopback"):
            await HttpFetcher(Resolver(["10.0.0.1"])).get(server.url(host="keys.example"), PRIVATE)


async def test_host_is_resolved_once_and_its_name_is_verified(tmp_path: Path) -> None:
    # The second look-up of a rebinding name leads elsewhere. The system knows neither this name nor the second address.
    authority = Authority()
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, authority))
    async with serving(authority.server("keys.example"), tmp_path) as server:
        server.publish("a")
        resolve = Resolver(["127.0.0.1"], ["203.0.113.1"])
        found = await HttpFetcher(resolve).get(server.url(host="keys.example"), rules)
        assert found.body == key_set("a")
        assert resolve.asked == [("keys.example", server.port)]
        assert server.requests[0][1]["host"] == f"keys.example:{server.port}"


async def test_connection_goes_to_the_checked_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    rules = FetchRules(authorities=authorities(tmp_path, authority))
    connect = asyncio.open_connection
    asked: list[str] = []

    async def to_loopback(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return await connect("127.0.0.1", *args, **options)

    monkeypatch.setattr(asyncio, "open_connection", to_loopback)
    async with serving(authority.server("keys.example"), tmp_path) as server:
        server.publish("a")
        fetcher = HttpFetcher(Resolver([GLOBAL], ["127.0.0.1"]))
        assert (await fetcher.get(server.url(host="keys.example"), rules)).body == key_set("a")
        assert asked == [GLOBAL]
        with pytest.raises(FetchError, match=r"127\.0\.0\.1, which is not a global address"):
            await fetcher.get(server.url(host="keys.example"), rules)
        assert asked == [GLOBAL]


async def test_next_address_is_tried_if_one_refuses() -> None:
    async with serving() as server:
        server.publish("a")
        fetcher = HttpFetcher(Resolver(["127.0.0.2", "127.0.0.1"]))  # the server listens on one of them
        assert (await fetcher.get(server.url(host="keys.example"), PRIVATE)).body == key_set("a")


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
async def test_certificate_for_another_host_is_refused(tmp_path: Path, host: str) -> None:
    authority = Authority()
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, authority))
    async with serving(authority.server("keys.example"), tmp_path) as server:
        with pytest.raises(FetchError, match=r"(Hostname|IP address) mismatch"):
            await HttpFetcher(Resolver(["127.0.0.1"])).get(server.url(host=host), rules)
        assert server.requests == []


async def test_address_in_the_certificate_is_verified_for_a_url_with_an_address(tmp_path: Path) -> None:
    authority = Authority()
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, authority))
    certificate = authority.issue([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    async with serving(certificate, tmp_path) as server:
        server.publish("a")
        assert (await get(server.url(), rules)).body == key_set("a")


async def test_unknown_authority_is_refused(tmp_path: Path) -> None:
    trusted, other = Authority("Trusted"), Authority("Other")
    async with serving(other.server(), tmp_path) as server:
        for rules in (PRIVATE, FetchRules(allow_private=True, authorities=authorities(tmp_path, trusted))):
            with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
                await get(server.url(), rules)
        assert server.requests == []


async def test_changed_authorities_count_at_the_next_fetch(tmp_path: Path) -> None:
    old, new = Authority("Old"), Authority("New")
    rules = FetchRules(allow_private=True, authorities=authorities(tmp_path, old))
    fetcher = HttpFetcher()
    async with serving(new.server(), tmp_path) as server:
        server.publish("a")
        with pytest.raises(FetchError):
            await fetcher.get(server.url(), rules)
        authorities(tmp_path, new)
        assert (await fetcher.get(server.url(), rules)).body == key_set("a")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"no certificate", b"\xff"])
async def test_unusable_authorities_never_mean_those_of_the_system(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    async with serving(Authority().server(), tmp_path) as server:
        with pytest.raises(FetchError, match=r"ca\.pem"):
            await get(server.url(), FetchRules(allow_private=True, authorities=path))


async def test_bearer_token_is_read_at_every_fetch(tmp_path: Path) -> None:
    path = tmp_path / "token"
    rules = FetchRules(allow_private=True, bearer_token=path)
    async with serving() as server:
        server.publish("a")
        for token in ("first.e30.x", "second.e30.x"):
            path.write_text(f"{token}\n")
            await get(server.url(), rules)
        assert [headers["authorization"] for _, headers in server.requests] == [
            "bearer first.e30.x",
            "bearer second.e30.x",
        ]


@pytest.mark.parametrize("content", [None, "", "SECRET two", "SECRET\r\nX: y", "SECRÉT", "a" * 17_000])
async def test_unusable_bearer_token_fails_without_being_shown(
    tmp_path: Path, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    caplog.set_level(logging.DEBUG)
    async with serving() as server:
        with pytest.raises(FetchError, match=r"/token ") as caught:
            await get(server.url(), FetchRules(allow_private=True, bearer_token=path))
        assert server.requests == []
    assert "SECR" not in f"{caught.value!r} {caplog.text}"


async def test_number_of_connections_is_bounded() -> None:
    fetcher = HttpFetcher()
    async with serving() as server:
        server.publish("a")
        server.open.clear()
        fetches = [asyncio.ensure_future(fetcher.get(server.url(), PRIVATE)) for _ in range(20)]
        await eventually(lambda: len(server.requests) == 16)
        assert fetcher._slots.locked()
        server.open.set()
        await asyncio.gather(*fetches)
        assert len(server.requests) == 20
