"""gRPC servers with the interceptors, of all kinds, with handlers of all shapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from tests.support.certificates import Certificate
from tests.support.fake_token_service import FakeTokenService
from tests.support.ports import free_port, release_port
from tests.unit.client.conftest import config_for
from token_service.client.auth_rules import AuthRules
from token_service.client.interceptors import AioAuthInterceptor, AuthInterceptor, current_claims
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator

KINDS = ("sync", "aio", "plain")
SHAPES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
Metadata = list[tuple[str, str]]


def presented(token: str, *proofs: str, scheme: str = "DPoP") -> Metadata:
    return [("authorization", f"{scheme} {token}"), *(("dpop", each) for each in proofs)]


class Handlers:
    """The handlers of `shop.Orders`, one of each shape, and the calls that reached one."""

    def __init__(self) -> None:
        self.reached: list[str] = []

    def _reach(self) -> bytes:
        self.reached.append(current_claims().token_id)
        return current_claims().subject.encode()

    def plain(self, shape: str) -> Callable[..., Any]:
        def unary(request: Any, context: Any) -> bytes:
            return self._reach()

        def stream(request: Any, context: Any) -> Iterator[bytes]:
            yield self._reach()

        return unary if shape.endswith("unary") else stream

    def asynchronous(self, shape: str) -> Callable[..., Any]:
        async def unary(request: Any, context: Any) -> bytes:
            await asyncio.sleep(0)
            return self._reach()

        async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
            await asyncio.sleep(0)
            yield self._reach()

        async def writer(request: Any, context: Any) -> None:
            await context.write(self._reach())

        if shape.endswith("unary"):
            return unary
        return stream if shape.startswith("unary") else writer


def call_of(channel: grpc.Channel, shape: str, metadata: Metadata | None = None) -> bytes:
    multi: Any = getattr(channel, shape)(f"/shop.Orders/{shape}")
    request = iter([b"1"]) if shape.startswith("stream") else b"1"
    answer = multi(request, metadata=metadata, timeout=60)
    return bytes(answer) if shape.endswith("unary") else b"".join(answer)


class Server:
    """A server that requires tokens, and its callers."""

    def __init__(self, service: FakeTokenService, address: str, handlers: Handlers) -> None:
        self.service = service
        self.address = address
        self.reached = handlers.reached
        self.roots: bytes | None = None

    def token(self, **claims: Any) -> str:
        return self.service.mint.token(time.time(), **claims)

    def call(
        self, metadata: Metadata, shape: str = SHAPES[0], certificate: Certificate | None = None
    ) -> bytes:
        options = (("grpc.use_local_subchannel_pool", 1),)
        if self.roots is None:
            channel = grpc.insecure_channel(self.address, options)
        else:
            pair = (None, None) if certificate is None else (certificate.key, certificate.certificate)
            credentials = grpc.ssl_channel_credentials(self.roots, *pair)
            channel = grpc.secure_channel(self.address, credentials, options)
        with channel:
            return call_of(channel, shape, metadata)

    def refusal(self, *args: Any, **options: Any) -> tuple[grpc.StatusCode, str]:
        info, error = self.refused(*args, **options)
        return error.code(), info.reason

    def refused(self, *args: Any, **options: Any) -> tuple[ErrorInfo, Any]:
        before = len(self.reached)
        with pytest.raises(grpc.RpcError) as caught:
            self.call(*args, **options)
        assert len(self.reached) == before
        error: Any = caught.value
        status = rpc_status.from_call(error)
        assert status is not None
        info = ErrorInfo()
        status.details[0].Unpack(info)
        assert info.domain == "token_service"
        return info, error


@asynccontextmanager
async def serving(
    service: FakeTokenService,
    kind: str,
    rules: AuthRules,
    credentials: grpc.ServerCredentials | None = None,
    port: int | None = None,
) -> AsyncIterator[Server]:
    """Serve with a validator of a kind: `sync`, `aio`, or `plain` for plain handlers of a `grpc.aio` server."""
    handlers, port = Handlers(), port or free_port()
    make = handlers.asynchronous if kind == "aio" else handlers.plain
    table: Any = {shape: getattr(grpc, f"{shape}_rpc_method_handler")(make(shape)) for shape in SHAPES}
    orders = grpc.method_handlers_generic_handler("shop.Orders", table)
    address = f"localhost:{port}"

    def listen(server: Any) -> None:
        server.add_generic_rpc_handlers((orders,))
        if credentials is None:
            server.add_insecure_port(address)
        else:
            server.add_secure_port(address, credentials)

    try:
        if kind == "sync":
            with SyncTokenValidator(config_for(service)) as validator:
                if not service.refuse_streams:
                    assert await asyncio.to_thread(validator.wait_ready, 60)
                server = grpc.server(ThreadPoolExecutor(4), interceptors=[AuthInterceptor(validator, rules)])
                listen(server)
                server.start()
                try:
                    yield Server(service, address, handlers)
                finally:
                    await asyncio.to_thread(server.stop(None).wait, 10)
        else:
            async with TokenValidator(config_for(service)) as aio_validator:
                if not service.refuse_streams:
                    assert await aio_validator.wait_ready(60)
                aio_server = grpc.aio.server(interceptors=[AioAuthInterceptor(aio_validator, rules)])
                listen(aio_server)
                await aio_server.start()
                try:
                    yield Server(service, address, handlers)
                finally:
                    await aio_server.stop(None)
    finally:
        release_port(port)
