"""The network process of a campaign: traffic that its links and gateways forward, delay or refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from tests.faults.campaign.certificates import Certificates
from tests.faults.campaign.network import Network
from tests.support.deadline import eventually
from tests.support.ports import free_port, release_port

VALIDATE = "/token_service.v1.TokenService/ValidateToken"
STREAM = "/token_service.v1.TokenService/StreamRevocations"


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    made = Certificates(tmp_path)
    made.files(0)
    return made


@pytest.fixture
def network(certificates: Certificates, tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path)
    yield made
    made.close()
    assert "Traceback" not in (tmp_path / "network.log").read_text()


class Echo(asyncio.Protocol):
    """A server protocol that sends received bytes back."""

    def __init__(self, opened: set[asyncio.Transport]) -> None:
        self._opened = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._opened.add(transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._opened.discard(self._transport)


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    opened: set[asyncio.Transport] = set()
    port = free_port()
    async with await asyncio.get_running_loop().create_server(lambda: Echo(opened), "127.0.0.1", port):
        yield f"127.0.0.1:{port}"
        for transport in opened:
            transport.abort()
        await eventually(lambda: not opened)
    release_port(port)


class Connection:
    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def ask(self) -> bytes:
        """Return the echoed bytes, or none if the connection was reset."""
        try:
            self._writer.write(b"word")
            return await self._reader.read(100)
        except ConnectionError:
            return b""


async def asked(address: str) -> bytes:
    """Return the bytes echoed over a new connection."""
    async with Connection(address) as one:
        return await one.ask()


async def test_link_forwards_is_cut_and_heals(network: Network, echo: str) -> None:
    link = network.link(echo)
    async with Connection(link.address) as one:
        assert await one.ask() == b"word"
        link.cut()
        assert await one.ask() == b""
    assert await asked(link.address) == b""
    link.heal()
    assert await asked(link.address) == b"word"


async def test_held_link_delivers_when_it_heals(network: Network, echo: str) -> None:
    link = network.link(echo)
    async with Connection(link.address) as one:
        assert await one.ask() == b"word"
        link.hold()
        asking = asyncio.create_task(one.ask())
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        link.heal()
        assert await asking == b"word"


async def test_redirected_link_resets_open_connections(network: Network, echo: str) -> None:
    port = free_port()
    link = network.link(f"127.0.0.1:{port}")  # no server listens
    assert await asked(link.address) == b""
    link.lead_to(echo)
    async with Connection(link.address) as one:
        assert await one.ask() == b"word"
        link.lead_to(f"127.0.0.1:{port}")
        assert await one.ask() == b""
    release_port(port)


async def test_gateway_delays_unary_answers_and_refuses_streams(
    network: Network, certificates: Certificates, tmp_path: Path
) -> None:
    answered = asyncio.Event()

    async def answer(request: bytes, _context: object) -> bytes:
        answered.set()
        return request + b"!"

    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    certificate, key = (file.read_bytes() for file in certificates.files(0))
    roots = grpc.ssl_channel_credentials((tmp_path / "authority.pem").read_bytes())
    node = grpc.aio.server()
    node.add_generic_rpc_handlers([Handlers()])
    port = node.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    await node.start()
    address = network.gateway(f"127.0.0.1:{port}", 0.5)
    async with grpc.aio.secure_channel(address, roots) as channel:
        loop = asyncio.get_running_loop()
        began = loop.time()
        validate: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(VALIDATE)
        asking = asyncio.ensure_future(validate(b"good?"))
        await answered.wait()
        assert not asking.done()
        assert await asking == b"good?!"
        assert loop.time() - began >= 0.5
        follow: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(STREAM)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await follow(b"").read()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await node.stop(None)
