from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.fake_token_service import FakeTokenService
from token_service.client import MemoryTokenStore, SyncTokenSource, Tokens, TokenSource
from token_service.client._internal.call_credentials import TokenCallCredentials
from token_service.errors import SessionRevokedError
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


@contextmanager
def echo_server() -> Iterator[str]:
    """Serve the caller's authorization as the answer, on a socket file, because gRPC treats that as secure."""

    def echo(request: Any, context: grpc.ServicerContext) -> bytes:
        return next((str(v).encode() for k, v in context.invocation_metadata() if k == "authorization"), b"")

    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{Path(directory) / 'echo'}"
        server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.method_handlers_generic_handler(
            "echo.Echo", {"Say": grpc.unary_unary_rpc_method_handler(echo)}
        )
        server.add_generic_rpc_handlers((handler,))
        server.add_secure_port(address, grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
        server.start()
        try:
            yield address
        finally:
            server.stop(None).wait(10)


def credentials(plugin: TokenCallCredentials) -> grpc.ChannelCredentials:
    return grpc.composite_channel_credentials(
        grpc.local_channel_credentials(grpc.LocalConnectionType.UDS), grpc.metadata_call_credentials(plugin)
    )


def store(service: FakeTokenService) -> MemoryTokenStore:
    now = time.time()
    return MemoryTokenStore(
        Tokens(access_token=service.mint.token(now), access_expire_time=now - 1, refresh_token="refresh-0")
    )


def test_every_call_carries_a_renewed_token(service: FakeTokenService) -> None:
    with echo_server() as address, grpc.insecure_channel(service.address) as tokens:
        source = SyncTokenSource(TokenServiceStub(tokens), client_id="web", store=store(service))
        with grpc.secure_channel(address, credentials(TokenCallCredentials(source))) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            answers = {say(b"", timeout=60) for _ in range(5)}
        assert answers == {f"Bearer {source.token()}".encode()}
        assert len(service.refresh_calls) == 1
        source.close()


@pytest.fixture
async def aio_tokens(service: FakeTokenService) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield channel


async def test_calls_in_an_event_loop_carry_a_renewed_token(
    service: FakeTokenService, aio_tokens: grpc.aio.Channel
) -> None:
    source = TokenSource(TokenServiceStub(aio_tokens), client_id="web", store=store(service))
    with echo_server() as address:
        async with grpc.aio.secure_channel(address, credentials(TokenCallCredentials(source))) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            answers = await asyncio.gather(*(say(b"", timeout=60) for _ in range(5)))
        assert set(answers) == {f"Bearer {await source.token()}".encode()}
        assert len(service.refresh_calls) == 1
    await source.close()


def test_a_call_without_a_token_is_not_made(service: FakeTokenService) -> None:
    service.refuse_refreshes = SessionRevokedError()
    with echo_server() as address, grpc.insecure_channel(service.address) as tokens:
        source = SyncTokenSource(TokenServiceStub(tokens), client_id="web", store=store(service))
        with grpc.secure_channel(address, credentials(TokenCallCredentials(source))) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            with pytest.raises(grpc.RpcError) as caught:
                say(b"", timeout=60)
        assert "session was revoked" in (caught.value.details() or "")
