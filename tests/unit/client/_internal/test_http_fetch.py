from __future__ import annotations

import socket

import pytest

from tests.support.raw_http_server import RawHttpServer, answer, send
from token_service.client._internal.http_fetch import fetch_over_http
from token_service.client._internal.keys import MAX_JWKS_BYTES

_HEAD = b"HTTP/1.1 200 OK\r\n"

BROKEN = {
    "nothing": b"",
    "no status line": b'{"keys":[]}',
    "a bad status": b"HTTP/1.1 abc OK\r\n\r\n",
    "a bad version": b"HTCPCP/1.0 200 OK\r\n\r\n",
    "a long status line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n",
    "a long header": _HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    "many headers": _HEAD + b"X: y\r\n" * 200 + b"\r\n",
    "a cut chunk": _HEAD + b'Transfer-Encoding: chunked\r\n\r\n400\r\n{"keys"',
    "a chunk without a size": _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a bad URL": b"HTTP/1.1 307 R\r\nLocation: http://[::1/\xff\r\nContent-Length: 0\r\n\r\n",
    "a redirect to a file": b"HTTP/1.1 308 R\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n",
    "a demand for a password": b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_answer_raises_a_documented_error(data: bytes) -> None:
    with RawHttpServer(send(data)) as server:
        with pytest.raises((OSError, ValueError)):
            fetch_over_http(server.url, 60)
        assert server.requests == 1


DRIPS = {
    "the status line": (b"HTTP/1.1 200 ", b"O"),
    "the header": (_HEAD + b"X: ", b"y"),
    "headers": (_HEAD, b"X: y\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the body": (_HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "the body of unknown length": (_HEAD + b"\r\n", b" "),
    "chunks": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "the size of a chunk": (_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "nothing": (b"", b""),
}


@pytest.mark.parametrize(("start", "again"), DRIPS.values(), ids=DRIPS)
def test_the_timeout_is_for_the_whole_answer(start: bytes, again: bytes) -> None:
    server = RawHttpServer(lambda connection: server.drip(connection, start, again))
    with server, pytest.raises(TimeoutError):
        fetch_over_http(server.url, 0.4)


def test_a_slow_answer_that_ends_in_time_is_whole() -> None:
    def slowly(connection: socket.socket) -> None:
        for byte in _HEAD + b"Content-Length: 2\r\n\r\n{}":
            connection.sendall(bytes([byte]))
            server.closing.wait(0.001)

    server = RawHttpServer(slowly)
    with server:
        assert fetch_over_http(server.url, 60) == b"{}"


def test_fetch_stops_reading_beyond_the_limit() -> None:
    def endless(connection: socket.socket) -> None:
        server.drip(connection, _HEAD + b"\r\n", b" " * 65536, pause=0.0)

    server = RawHttpServer(endless)
    with server:
        assert len(fetch_over_http(server.url, 60)) == MAX_JWKS_BYTES + 1


def test_no_redirect_is_followed() -> None:
    with RawHttpServer(answer(b"{}")) as elsewhere:
        for status in (301, 302, 303, 307, 308):
            redirect = f"HTTP/1.1 {status} Moved\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
            with RawHttpServer(send(redirect.encode())) as server, pytest.raises(OSError, match=str(status)):
                fetch_over_http(server.url, 60)
        assert elsewhere.requests == 0


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "ftp://127.0.0.1/x",
        "data:,x",
        "http://",
        "http://127.0.0.1:port/",
        "http://127.0.0.1/\n",
        "http://[::1/",
        f"http://{'x' * 64}.test/",
        "https://\udcff/",
    ],
)
def test_invalid_url_raises_a_documented_error(url: str) -> None:
    with pytest.raises((OSError, ValueError)):
        fetch_over_http(url, 5)


def test_missing_server_and_server_without_tls_raise_errors() -> None:
    with RawHttpServer(send(b"HTTP/1.1 400 Bad\r\n\r\n")) as server:
        url = server.url
        with pytest.raises(OSError, match=r"(?i)ssl"):
            fetch_over_http(url.replace("http:", "https:"), 60)
    with pytest.raises(OSError, match=r"(?i)refused"):
        fetch_over_http(url, 60)
