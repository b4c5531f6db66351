"""TLS on the HTTP port: real handshakes over real sockets."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually
from token_service.certificates.server import TlsFiles
from token_service.errors import ConfigurationError
from token_service.web import tls
from token_service.web.connections import ConnectionLimits
from token_service.web.server import HttpServer
from token_service.web.tls import TlsContext

SERVERS = Authority("servers")
CLIENTS = Authority("clients")


async def show(request: Request) -> Response:
    """Answer with what the scope says about TLS."""
    return JSONResponse(
        {"scheme": request.scope["scheme"], "tls": request.scope.get("extensions", {}).get("tls")}
    )


async def healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def large(_: Request) -> Response:
    """Answer with more than the buffers of two sockets hold."""
    return StreamingResponse(iter([b"x" * 65536] * 256))


APP = Starlette(routes=[Route("/show", show), Route("/healthz", healthz), Route("/large", large)])


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    paths = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    write(paths, SERVERS.server(), CLIENTS)
    return paths


def write(files: TlsFiles, server: Certificate, clients: Authority) -> None:
    assert files.client_ca is not None
    for path, content in (
        (files.certificate_chain, server.certificate),
        (files.private_key, server.key),
        (files.client_ca, clients.certificate),
    ):
        scratch = path.with_suffix(".new")
        scratch.write_bytes(content)
        scratch.replace(path)


@asynccontextmanager
async def serving(files: TlsFiles, limits: ConnectionLimits | None = None) -> AsyncIterator[HttpServer]:
    context = TlsContext(files)
    context.load()
    async with HttpServer("127.0.0.1", 0, APP, connections=limits, tls=context) as server:
        watching = asyncio.create_task(context.watch())
        try:
            yield server
        finally:
            watching.cancel()


def trusting(
    authority: Authority = SERVERS, *, certificate: Certificate | None = None, directory: Path | None = None
) -> ssl.SSLContext:
    """Return the context of a client that trusts one authority and may have a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate.decode())
    if certificate is not None:
        assert directory is not None
        path = directory / "client-pair.pem"
        path.write_bytes(certificate.certificate + certificate.key)
        context.load_cert_chain(path)
    return context


def client_of(server: HttpServer, context: ssl.SSLContext) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"https://{server.address}", verify=context, trust_env=False, timeout=60
    )


async def is_healthy(server: HttpServer) -> bool:
    """Return whether a health check over a new connection succeeds, as a load balancer makes it."""
    async with client_of(server, trusting()) as client:
        return (await client.get("/healthz")).text == "ok\n"


async def opened(server: HttpServer, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection without TLS, send bytes, and wait until the server has registered it."""
    before = len(server.connections)
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    await eventually(lambda: len(server.connections) > before or reader.at_eof())
    return reader, writer


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except (ConnectionResetError, ssl.SSLError):
        return b""


async def test_client_without_certificate_is_served(files: TlsFiles) -> None:
    async with serving(files) as server, client_of(server, trusting()) as client:
        answer = (await client.get("/show")).json()
    assert answer["scheme"] == "https"
    assert answer["tls"] == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": None,
    }


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("below", ["root", "intermediate"])
async def test_scope_has_the_certificates_that_the_client_sent(
    files: TlsFiles, tmp_path: Path, version: ssl.TLSVersion, below: str
) -> None:
    signer = CLIENTS if below == "root" else Authority("intermediate", parent=CLIENTS)
    certificate = signer.caller(dns_name="batch.internal")
    context = trusting(certificate=certificate, directory=tmp_path)
    context.minimum_version = context.maximum_version = version
    async with serving(files) as server:
        session = None
        for _ in range(2):
            answer, session = await asyncio.to_thread(shown, server, context, session)
            assert "".join(answer["client_cert_chain"]) == certificate.certificate.decode()
            assert answer["tls_version"] == version


def shown(
    server: HttpServer, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[dict[str, Any], ssl.SSLSession | None]:
    """Return what a new connection, which resumes a session if the server allows it, shows of TLS; and its session."""
    host, _, port = server.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 60) as plain,
        context.wrap_socket(plain, server_hostname=host, session=session) as connection,
    ):
        connection.sendall(b"GET /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        return json.loads(received.partition(b"\r\n\r\n")[2])["tls"], connection.session


async def test_authority_that_is_no_root_vouches_for_clients(files: TlsFiles, tmp_path: Path) -> None:
    middle = Authority("intermediate", parent=CLIENTS)
    write(files, SERVERS.server(), middle)
    context = trusting(certificate=middle.caller(dns_name="batch.internal"), directory=tmp_path)
    async with serving(files) as server, client_of(server, context) as client:
        assert (await client.get("/show")).status_code == 200


@pytest.mark.parametrize("fault", ["foreign", "expired", "not valid yet"])
async def test_unacceptable_client_certificate_ends_the_handshake(
    files: TlsFiles, tmp_path: Path, fault: str
) -> None:
    certificate = {
        "foreign": lambda: Authority("clients").issue(),
        "expired": lambda: CLIENTS.issue(lifetime=-60),
        "not valid yet": lambda: CLIENTS.issue(begins=600),
    }[fault]()
    async with serving(files) as server:
        with pytest.raises(httpx.TransportError):
            async with client_of(server, trusting(certificate=certificate, directory=tmp_path)) as client:
                await client.get("/show")
        await eventually(lambda: len(server.connections) == 0)
        assert await is_healthy(server)


async def test_tls_1_1_is_refused(files: TlsFiles) -> None:
    context = trusting()
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    async with serving(files) as server:
        with pytest.raises(httpx.TransportError):
            async with client_of(server, context) as client:
                await client.get("/healthz")
        assert await is_healthy(server)


async def test_replaced_certificate_and_authorities_are_used_by_new_connections(
    files: TlsFiles, tmp_path: Path
) -> None:
    others = Authority("other servers")
    other_clients = Authority("other clients")
    context = trusting(certificate=CLIENTS.issue(), directory=tmp_path)
    async with serving(files) as server, client_of(server, context) as client:
        assert (await client.get("/healthz")).status_code == 200
        write(files, others.server(), other_clients)

        async def is_replaced() -> bool:
            try:
                async with client_of(server, trusting(others)) as other:
                    return (await other.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        assert await eventually(is_replaced)
        assert (await client.get("/healthz")).status_code == 200  # the connection that was open goes on
        new_context = trusting(others, certificate=CLIENTS.issue(), directory=tmp_path)
        with pytest.raises(httpx.TransportError):
            async with client_of(server, new_context) as withdrawn:
                await withdrawn.get("/healthz")


async def test_unusable_replacement_changes_nothing_and_is_logged(
    files: TlsFiles, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(files) as server:
        files.certificate_chain.write_bytes(Authority("others").server().certificate)  # not of the key

        def errors() -> list[str]:
            return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

        await eventually(lambda: bool(errors()))
        assert "the previous ones stay in force: the private key" in errors()[0]
        assert await is_healthy(server)


def test_unusable_files_are_refused(files: TlsFiles) -> None:
    files.private_key.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="the TLS files can't be used: "):
        TlsContext(files).load()


@pytest.mark.parametrize(
    "data", [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff rubbish", b"\0"]
)
async def test_client_without_tls_is_disconnected_and_no_other(files: TlsFiles, data: bytes) -> None:
    async with serving(files, ConnectionLimits(tls_timeout=3.0)) as server:
        reader, writer = await opened(server, data)
        received = await read_to_end(reader)
        assert b"HTTP" not in received
        writer.close()
        assert await is_healthy(server)
        await eventually(lambda: len(server.connections) == 0)


async def test_handshake_that_takes_too_long_is_ended(files: TlsFiles) -> None:
    async with serving(files, ConnectionLimits(tls_timeout=0.3)) as server:
        reader, writer = await opened(server, b"\x16\x03\x01")
        assert await read_to_end(reader) == b""
        await eventually(lambda: len(server.connections) == 0)
        writer.close()


async def test_failed_handshakes_are_told_with_their_reason(files: TlsFiles, tmp_path: Path) -> None:
    context = TlsContext(files)
    context.load()
    reasons: list[str] = []
    context.on_failure = reasons.append
    limits = ConnectionLimits(tls_timeout=5.0)  # longer than a handshake on a busy machine
    async with HttpServer("127.0.0.1", 0, APP, connections=limits, tls=context) as server:
        assert await is_healthy(server)
        assert reasons == []
        expired = trusting(certificate=CLIENTS.issue(lifetime=-60), directory=tmp_path)
        with pytest.raises(httpx.TransportError):
            async with client_of(server, expired) as client:
                await client.get("/show")
        await eventually(lambda: reasons == ["certificate"])
        _, plain = await opened(server, b"GET / HTTP/1.1\r\n\r\n")
        await eventually(lambda: reasons[1:] == ["protocol"])
        plain.close()
        _, silent = await opened(server, b"\x16\x03\x01")
        await eventually(lambda: reasons[2:] == ["timeout"])
        silent.close()
        _, gone = await opened(server, b"\x16\x03\x01")
        gone.close()
        await eventually(lambda: reasons[3:] == ["disconnected"])


@pytest.mark.parametrize("limits", [{"most": 5}, {"of_address": 5}], ids=["of all", "of one address"])
async def test_unfinished_handshakes_make_room_for_a_health_check(
    files: TlsFiles, limits: dict[str, int]
) -> None:
    async with serving(files, ConnectionLimits(tls_timeout=600, **limits)) as server:
        readers = [await opened(server) for _ in range(5)]
        assert await is_healthy(server)
        assert await read_to_end(readers[0][0]) == b""
        assert not any(reader.at_eof() for reader, _ in readers[1:])
        for _, writer in readers:
            writer.close()


async def test_server_that_is_out_of_descriptors_goes_on_later(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_ACCEPT_PAUSE", 0.01)
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failures = [OSError(errno.EMFILE, "Too many open files")] * 3

    async def sock_accept(listener: socket.socket) -> object:
        if failures:
            raise failures.pop()
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", sock_accept)
    async with serving(files) as server:
        assert await is_healthy(server)
    messages = [record.getMessage() for record in caplog.records if record.name == "token_service.web.tls"]
    assert messages == ["HTTP can't accept connections: Too many open files"] * 3


async def encrypted(server: HttpServer, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection with TLS and send bytes."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting())
    writer.write(data)
    return reader, writer


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "half a header"])
async def test_header_timeout_holds_for_tls(files: TlsFiles, sent: bytes) -> None:
    async with serving(files, ConnectionLimits(header_timeout=0.2)) as server:
        reader, writer = await encrypted(server, sent)
        assert await read_to_end(reader) == b""
        await eventually(lambda: len(server.connections) == 0)
        writer.close()


async def test_answer_timeout_holds_for_tls(files: TlsFiles) -> None:
    async with serving(files, ConnectionLimits(header_timeout=600, answer_timeout=0.5)) as server:
        _, writer = await encrypted(server, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: len(server.connections) == 0)
        assert await is_healthy(server)
        writer.close()


async def test_age_limit_holds_for_tls(files: TlsFiles) -> None:
    async with serving(files, ConnectionLimits(max_age=3.0)) as server:
        reader, writer = await encrypted(server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_request_in_the_flight_of_the_handshake_is_answered(files: TlsFiles) -> None:
    """The last message of the client in TLS 1.3 and its request arrive at once."""
    async with serving(files) as server:
        host, _, port = server.address.rpartition(":")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        bio = trusting().wrap_bio(incoming, outgoing, server_hostname=host)
        reader, writer = await asyncio.open_connection(host, int(port))
        while True:
            try:
                bio.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await asyncio.wait_for(reader.read(65536), 60))
        bio.write(b"GET /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        writer.write(outgoing.read())
        incoming.write(await read_to_end(reader))
        received = bio.read(65536) + bio.read(65536)  # the header and the body are two records
        writer.close()
    assert received.startswith(b"HTTP/1.1 200")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["tls"]["tls_version"] == 0x0304


async def test_stopping_ends_unfinished_handshakes(files: TlsFiles) -> None:
    async with serving(files, ConnectionLimits(tls_timeout=600)) as server:
        reader, writer = await opened(server, b"\x16\x03\x01")
    assert await read_to_end(reader) == b""
    writer.close()


@pytest.mark.parametrize(
    "behavior",
    [
        test_client_without_certificate_is_served,
        test_tls_1_1_is_refused,
        test_handshake_that_takes_too_long_is_ended,
        test_answer_timeout_holds_for_tls,
        test_age_limit_holds_for_tls,
        test_request_in_the_flight_of_the_handshake_is_answered,
        test_stopping_ends_unfinished_handshakes,
    ],
    ids=lambda behavior: behavior.__name__,
)
def test_event_loop_of_nodes_behaves_the_same(
    files: TlsFiles, behavior: Callable[[TlsFiles], Awaitable[None]]
) -> None:
    """uvloop has its own code for sockets and TLS."""

    async def run() -> None:
        await behavior(files)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
