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
import jwt
import pytest

from tests.support.fake_token_service import FakeTokenService
from token_service.client import DpopKey, MemoryTokenStore, SyncTokenSource, Tokens, TokenSource
from token_service.client._internal.call_credentials import TokenCallCredentials
from token_service.client._internal.grpc_refusals import refusal_status
from token_service.client.requirements import NOTHING_REQUIRED
from token_service.errors import InvalidTokenError, SessionRevokedError
from token_service.tokens.claims import Confirmation
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.possession import PossessionChecker, Presented, Scheme
from token_service.tokens.secret import Secret
from token_service.v1.token_service_pb2_grpc import TokenServiceStub


@contextmanager
def echo_server() -> Iterator[str]:
    """Serve the caller's authorization as the answer, on a socket file, because gRPC treats that as secure."""

    def echo(request: Any, context: grpc.ServicerContext) -> bytes:
        return next((str(v).encode() for k, v in context.invocation_metadata() if k == "authorization"), b"")

    with serving_on_socket(echo) as address:
        yield address


@contextmanager
def serving_on_socket(behavior: Any) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        address = f"unix:{Path(directory) / 'echo'}"
        server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.method_handlers_generic_handler(
            "echo.Echo", {"Say": grpc.unary_unary_rpc_method_handler(behavior)}
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


KEY = DpopKey.generate()
ORIGIN = "https://echo.example:8443"
NAMED = (("grpc.default_authority", "echo.example:8443"),)


class Demanding:
    """A handler that accepts one call with each proof, for its own URI and with its nonce."""

    def __init__(self, service: FakeTokenService) -> None:
        self.service = service
        self.nonces = DpopNonces([Secret(b"k" * 32)])
        self.checker = PossessionChecker(nonces=self.nonces)
        self.uris: list[str] = []

    def __call__(self, request: Any, context: grpc.ServicerContext) -> bytes:
        metadata = {str(name): str(value) for name, value in context.invocation_metadata()}
        scheme, _, token = metadata["authorization"].partition(" ")
        assert scheme == "DPoP"
        self.uris.append(jwt.decode(metadata["dpop"], options={"verify_signature": False})["htu"])
        presented = Presented(dpop_proof=metadata["dpop"], method="POST", uri=f"{ORIGIN}/echo.Echo/Say")
        now = time.time()
        try:
            self.checker.check(
                Confirmation(KEY.jkt), token, presented, scheme=Scheme.DPOP, now=now, elapsed=now
            )
        except InvalidTokenError as error:
            nonce = self.nonces.current(now)
            code, details, trailers = refusal_status(error, NOTHING_REQUIRED, nonce)
            context.set_trailing_metadata(trailers)
            context.abort(code, details)
        return token.encode()


def test_call_with_a_bound_token_carries_its_proof_and_the_nonce(service: FakeTokenService) -> None:
    demanding = Demanding(service)
    with serving_on_socket(demanding) as address, grpc.insecure_channel(service.address) as tokens:
        source = SyncTokenSource(
            TokenServiceStub(tokens), client_id="web", store=store(service), dpop_key=KEY
        )
        plugin = TokenCallCredentials(source)
        with grpc.secure_channel(address, credentials(plugin), NAMED) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            with pytest.raises(grpc.RpcError) as caught:
                say(b"", timeout=60)
            assert plugin.take_nonce(caught.value)
            assert plugin.take_nonce(caught.value)  # as each of several calls that failed
            for _ in range(3):
                assert say(b"", timeout=60) == source.token().encode()
            assert set(demanding.uris) == {f"{ORIGIN}/echo.Echo/Say"}
            missing: Any = channel.unary_unary("/echo.Echo/Missing")
            with pytest.raises(grpc.RpcError) as caught:
                missing(b"", timeout=60)
            assert not plugin.take_nonce(caught.value)
        assert len(service.refresh_calls) == 1
        source.close()


async def test_calls_in_an_event_loop_carry_proofs(
    service: FakeTokenService, aio_tokens: grpc.aio.Channel
) -> None:
    source = TokenSource(TokenServiceStub(aio_tokens), client_id="web", store=store(service), dpop_key=KEY)
    plugin = TokenCallCredentials(source)
    with serving_on_socket(Demanding(service)) as address:
        async with grpc.aio.secure_channel(address, credentials(plugin), NAMED) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            with pytest.raises(grpc.RpcError) as caught:
                await say(b"", timeout=60)
            assert plugin.take_nonce(caught.value)
            answers = await asyncio.gather(*(say(b"", timeout=60) for _ in range(5)))
        assert set(answers) == {(await source.token()).encode()}
    await source.close()


def test_call_with_a_bound_token_is_not_made_without_the_key(service: FakeTokenService) -> None:
    bound = Tokens(
        access_token="token", access_expire_time=time.time() + 900, refresh_token="r", token_type="DPoP"
    )
    with echo_server() as address, grpc.insecure_channel(service.address) as tokens:
        source = SyncTokenSource(TokenServiceStub(tokens), client_id="web", store=MemoryTokenStore(bound))
        with grpc.secure_channel(address, credentials(TokenCallCredentials(source))) as channel:
            say: Any = channel.unary_unary("/echo.Echo/Say")
            with pytest.raises(grpc.RpcError) as caught:
                say(b"", timeout=60)
        assert "dpop_key" in (caught.value.details() or "")
