from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.deadline import eventually
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.web.app import make_app
from token_service.web.connections import Connection, ConnectionLimits, Connections, OpenConnection
from token_service.web.probes import Probes
from token_service.web.server import HttpServer, bind


class Node:
    """The state that the HTTP edge shows."""

    def __init__(self) -> None:
        self.keys: bytes | Exception = b'{"keys":[]}'
        self.problems: list[str] = []
        self.has_started = True

    def jwks(self) -> bytes:
        if isinstance(self.keys, Exception):
            raise self.keys
        return self.keys

    @property
    def probes(self) -> Probes:
        return Probes(
            readiness=lambda: {"grpc": None, **{f"check-{n}": each for n, each in enumerate(self.problems)}},
            startup=lambda: {"started": None if self.has_started else "not all workers have been ready yet"},
            version={"version": "1.2.3", "schema_revision": "0042"},
        )


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def server(node: Node) -> AsyncIterator[HttpServer]:
    async with HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes)) as running:
        yield running


@pytest.fixture
async def client(server: HttpServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{server.address}", trust_env=False, timeout=60) as running:
        yield running


async def test_address_has_the_bound_port(server: HttpServer) -> None:
    host, _, port = server.address.rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


async def test_liveness_and_readiness_differ(client: httpx.AsyncClient, node: Node) -> None:
    node.problems = ["the database is unavailable", "no keys"]
    assert (await client.get("/healthz")).status_code == 200
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "problems": ["the database is unavailable", "no keys"]}
    node.problems = []
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "problems": []}
    assert answer.headers["cache-control"] == "no-store"


async def test_verbose_probes_list_their_checks(client: httpx.AsyncClient, node: Node) -> None:
    answers = {}
    for path in ("livez", "healthz", "startupz", "readyz"):
        answer = await client.get(f"/{path}?verbose")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        answers[path] = (answer.status_code, answer.text)
    assert answers == {
        "livez": (200, "[+]ping ok\nlivez check passed\n"),
        "healthz": (200, "[+]ping ok\nlivez check passed\n"),
        "startupz": (200, "[+]started ok\nstartupz check passed\n"),
        "readyz": (200, "[+]grpc ok\nreadyz check passed\n"),
    }
    node.problems = ["the database is unavailable"]
    answer = await client.get("/readyz?verbose")
    assert (answer.status_code, answer.text) == (
        503,
        "[+]grpc ok\n[-]check-0 failed: the database is unavailable\nreadyz check failed\n",
    )


async def test_startup_and_liveness_answer_in_text(client: httpx.AsyncClient, node: Node) -> None:
    for path in ("/livez", "/startupz"):
        answer = await client.get(path)
        assert (answer.status_code, answer.text) == (200, "ok\n")
    node.has_started = False
    answer = await client.get("/startupz")
    assert (answer.status_code, answer.text) == (
        503,
        "[-]started failed: not all workers have been ready yet\nstartupz check failed\n",
    )


async def test_version_names_the_version_and_the_schema(client: httpx.AsyncClient) -> None:
    answer = await client.get("/version")
    assert answer.json() == {"version": "1.2.3", "schema_revision": "0042"}
    assert answer.headers["cache-control"] == "no-store"


async def test_the_key_set_can_be_cached_and_asked_for_again(client: httpx.AsyncClient, node: Node) -> None:
    path = "/.well-known/jwks.json"
    answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.content == b'{"keys":[]}'
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    etag = answer.headers["etag"]
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await client.get(path, headers={"If-None-Match": header})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == etag
        assert again.headers["cache-control"] == "public, max-age=300"
    node.keys = b'{"keys":[{}]}'
    changed = await client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    head = await client.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", changed.headers["etag"])


@pytest.mark.parametrize(("announced", "age"), [(0.0, 0), (60.0, 20), (900.0, 300), (86400.0, 300)])
async def test_key_set_max_age_is_within_the_announcement_of_the_next_key(
    node: Node, announced: float, age: int
) -> None:
    server = HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes, key_announce_time=announced))
    async with server as running, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answer = await client.get(f"http://{running.address}/.well-known/jwks.json")
    assert answer.headers["cache-control"] == f"public, max-age={age}"


async def test_key_set_is_below_the_path_of_the_issuer_as_well(node: Node) -> None:
    server = HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes, issuer_path="/realms/a"))
    async with server as running, httpx.AsyncClient(trust_env=False, timeout=60) as client:
        answers = [
            await client.get(f"http://{running.address}{path}/.well-known/jwks.json")
            for path in ("", "/realms/a", "/realms")
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 404]
    assert answers[1].content == answers[0].content == b'{"keys":[]}'


async def test_key_set_is_never_empty(client: httpx.AsyncClient, node: Node) -> None:
    node.keys = SigningUnavailableError("the keys are not loaded yet", retry_after=0.4)
    answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "error": {"reason": "SIGNING_UNAVAILABLE", "message": "the keys are not loaded yet"}
    }


async def test_a_defect_is_logged_and_shows_nothing_of_itself(
    client: httpx.AsyncClient, node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.keys = RuntimeError("inner text")
    answer = await client.get("/.well-known/jwks.json")
    assert answer.status_code == 500
    error = answer.json()["error"]
    error_id = error.pop("error_id")
    assert error == {"reason": "INTERNAL", "message": "internal error"}
    logged = [record for record in caplog.records if record.name.startswith("token_service")]
    assert [(record.levelname, record.getMessage()) for record in logged] == [
        ("ERROR", f"GET /.well-known/jwks.json failed, error_id {error_id}")
    ]
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_slash_at_the_end_is_no_redirect_to_a_host_that_the_request_names(
    client: httpx.AsyncClient, method: str
) -> None:
    answer = await client.request(method, "/healthz/", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_other_paths_and_methods_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).status_code == 404
    assert (await client.post("/healthz", content=b"x" * 100_000)).status_code == 405
    assert "server" not in (await client.get("/healthz")).headers


async def test_malformed_requests_are_answered_and_the_server_continues(
    server: HttpServer, client: httpx.AsyncClient
) -> None:
    host, _, port = server.address.rpartition(":")
    for data in (b"\x16\x03\x01rubbish\r\n\r\n", b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 70_000):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 60)
        assert answer.startswith(b"HTTP/1.1 4")
        writer.close()
    assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/unknown"])
async def test_request_with_two_lengths_ends_its_connection(server: HttpServer, path: str) -> None:
    """A proxy that takes the other length would send the request of another client as the rest of this one."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    ambiguous = (
        "GET {} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    writer.write((ambiguous.format(path) + "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").encode())
    answers = await asyncio.wait_for(reader.read(), 60)
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1
    writer.close()


_CHUNKED = b"%b / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
async def test_body_that_breaks_http_is_answered_without_a_trace(
    caplog: pytest.LogCaptureFixture, method: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 405, "headers": []})
        await send({"type": "http.response.body", "body": b"refused without reading"})

    caplog.set_level(logging.WARNING, "uvicorn.error")
    async with HttpServer("127.0.0.1", 0, app) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(_CHUNKED % method + b"no length\r\n")
        answer = await asyncio.wait_for(reader.read(), 60)
        assert answer[:12] == (b"HTTP/1.1 400" if method == b"POST" else b"")
        writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_body_that_breaks_http_after_the_response_began_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"ok"})
        ended.set()

    caplog.set_level(logging.WARNING, "uvicorn.error")
    async with HttpServer("127.0.0.1", 0, app) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(_CHUNKED % b"POST")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        writer.write(b"no length\r\n")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        await asyncio.wait_for(ended.wait(), 60)
        writer.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_port_in_use_is_refused_with_the_name_of_the_setting(server: HttpServer, node: Node) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(ConfigurationError, match=r"TOKEN_SERVICE_HTTP_ADDRESS.*in use"):
        async with HttpServer("127.0.0.1", port, make_app(node.jwks, node.probes)):
            pass


async def test_servers_share_a_port_on_request(node: Node) -> None:
    def make(port: int) -> HttpServer:
        return HttpServer("127.0.0.1", port, make_app(node.jwks, node.probes), reuse_port=True)

    async with make(0) as first, make(int(first.address.rpartition(":")[2])) as second:
        assert first.address == second.address


def has_ipv6() -> bool:
    """Return whether this machine has IPv6. Many containers do not."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_server_listens_on_ipv6(node: Node) -> None:
    if not has_ipv6():
        with pytest.raises(ConfigurationError, match="TOKEN_SERVICE_HTTP_ADDRESS"):
            await HttpServer("::1", 0, make_app(node.jwks, node.probes)).__aenter__()
        return
    async with HttpServer("::1", 0, make_app(node.jwks, node.probes)) as server:
        assert server.address.startswith("[::1]:")
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            assert (await client.get(f"http://{server.address}/healthz")).status_code == 200


async def test_stopping_closes_idle_connections_and_the_port_and_touches_no_signal(node: Node) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes)) as server:
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()

    async def refused() -> bool:
        try:
            _, again = await asyncio.open_connection(host, int(port))
        except ConnectionRefusedError:
            return True
        again.close()
        return False

    assert await eventually(refused)


async def test_a_connection_that_sends_no_whole_request_is_ended_by_its_age(node: Node) -> None:
    limits = ConnectionLimits(max_age=1.0)
    async with serving(node, limits) as server:
        host, _, port = server.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTT")
        assert (await asyncio.wait_for(reader.read(), 60)).startswith(b"HTTP/1.1 200")
        writer.close()


# --- Connections without a request -------------------------------------------------------------------------------------


def serving(node: Node, limits: ConnectionLimits) -> HttpServer:
    return HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes), connections=limits)


async def opened(server: HttpServer, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection, send bytes, and wait until the server has registered it."""
    before = len(server.connections)
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    await eventually(lambda: len(server.connections) > before or reader.at_eof())
    return reader, writer


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection."""
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionResetError:
        return True


async def healthy(server: HttpServer) -> bool:
    """Return whether a health check over a new connection succeeds."""
    async with httpx.AsyncClient(base_url=f"http://{server.address}", trust_env=False, timeout=60) as client:
        return (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("limits", [{"most": 5}, {"of_address": 5}], ids=["of all", "of one address"])
async def test_idle_connections_make_room_for_a_health_check(node: Node, limits: dict[str, int]) -> None:
    async with serving(node, ConnectionLimits(header_timeout=600, **limits)) as server:
        readers = [await opened(server) for _ in range(5)]
        assert await healthy(server)
        assert await is_closed(readers[0][0])
        assert not any(reader.at_eof() for reader, _ in readers[1:])
        await eventually(lambda: len(server.connections) == 4)  # the health check's is closed too
        more = await opened(server)
        assert len(server.connections) <= 5
        for _, writer in [*readers, more]:
            writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "half a header"])
async def test_connection_without_a_whole_header_in_time_is_closed(node: Node, sent: bytes) -> None:
    async with serving(node, ConnectionLimits(header_timeout=0.2)) as server:
        reader, writer = await opened(server, sent)
        assert await is_closed(reader)
        assert len(server.connections) == 0
        writer.close()


async def test_each_header_of_a_connection_has_the_time_limit(node: Node) -> None:
    async with serving(node, ConnectionLimits(header_timeout=1.0)) as server:
        reader, writer = await opened(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"ok\n"), 60)).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /healthz HTT")
        assert await is_closed(reader)
        writer.close()


@pytest.mark.parametrize(
    "then", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["nothing", "another request"]
)
async def test_connection_that_does_not_read_its_answer_is_closed(node: Node, then: bytes) -> None:
    node.keys = b"x" * 16 * 1024 * 1024  # more than the buffers of two sockets hold
    async with serving(node, ConnectionLimits(header_timeout=600, answer_timeout=0.5)) as server:
        ask = b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n"
        _, writer = await opened(server, ask + ask + then)
        await eventually(lambda: len(server.connections) == 0)
        assert await healthy(server)
        writer.close()


async def test_answers_to_requests_that_come_together_have_the_time_limit_each(node: Node) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serving(node, ConnectionLimits(header_timeout=2.0)) as server:
        reader, writer = await opened(server, b"GET /healthz HTT")
        writer.write(ask.removeprefix(b"GET /healthz HTT") + ask * 2)
        for _ in range(3):
            assert (await asyncio.wait_for(reader.readuntil(b"ok\n"), 60)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(2.5)
        writer.write(ask)  # the connection waits for the next request, not for the rest of one
        assert (await asyncio.wait_for(reader.readuntil(b"ok\n"), 60)).startswith(b"HTTP/1.1 200")
        writer.close()


class Fake:
    """A connection as the registry sees it."""

    def __init__(self, address: str, *, idle: bool, among: Connections) -> None:
        self.address, self.idle, self.closed, self._among = address, idle, False, among

    def close(self) -> None:
        self.closed = True
        self._among.discard(self)


def test_busy_connections_are_not_closed_and_addresses_do_not_cost_each_other() -> None:
    among = Connections(ConnectionLimits(most=4, of_address=2))

    def added(address: str, *, idle: bool) -> tuple[Fake, bool]:
        fake = Fake(address, idle=idle, among=among)
        connection: OpenConnection = fake
        return fake, among.add(connection)

    other, _ = added("b", idle=True)
    busy, _ = added("a", idle=False)
    idle, _ = added("a", idle=True)
    _, taken = added("a", idle=True)
    assert taken
    assert (other.closed, busy.closed, idle.closed) == (False, False, True)
    # Two idle connections have made room, and 32 are accepted beyond the limit of 4.
    others = [added(f"c{number}", idle=False)[1] for number in range(40)]
    assert others.index(False) == 35
    assert (other.closed, busy.closed) == (True, False)


def test_busy_connections_of_one_address_leave_room_for_others() -> None:
    among = Connections(ConnectionLimits(most=100, of_address=2))

    def added(address: str) -> bool:
        connection: OpenConnection = Fake(address, idle=False, among=among)
        taken = among.add(connection)
        if not taken:
            connection.close()
        return taken

    assert [added("a") for _ in range(40)].count(True) == 34
    assert added("b")


def test_busy_connections_of_one_ipv6_network_count_as_one_address() -> None:
    among = Connections(ConnectionLimits(most=100, of_address=2))
    connections = [
        Fake(f"2001:db8::{number:x}", idle=False, among=among) for number in range(40)
    ]  # one host has 2**64 of them
    taken = [among.add(each) for each in connections]
    assert taken.count(True) == 34
    assert among.add(Fake("2001:db8:0:1::1", idle=False, among=among))
    for each in connections:
        each.close()
    assert (len(among), len(among._of_address)) == (1, 1)


async def test_localhost_is_served_on_every_loopback_address(node: Node) -> None:
    async with HttpServer("localhost", 0, make_app(node.jwks, node.probes)) as server:
        assert server.address.startswith("localhost:")
        port = server.address.rpartition(":")[2]
        hosts = ["127.0.0.1", "[::1]"] if has_ipv6() else ["127.0.0.1"]
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for host in hosts:
                assert (await client.get(f"http://{host}:{port}/healthz")).status_code == 200


async def test_connections_send_each_packet_at_once(server: HttpServer) -> None:
    _, writer = await opened(server)
    (connection,) = server.connections._open
    assert isinstance(connection, Connection)
    accepted: socket.socket = connection.transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()


async def test_bound_socket_without_listen_refuses_connections(node: Node) -> None:
    listeners = bind("127.0.0.1", 0)
    port = listeners[0].getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    made = HttpServer("127.0.0.1", 0, make_app(node.jwks, node.probes), bound=listeners)
    async with made as server:
        assert server.address == f"127.0.0.1:{port}"
