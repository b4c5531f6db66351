"""A gateway between validators and a node that forwards only questions about tokens.

It forwards no stream and no probe, and delays each answer of the node. So validators depend on answers that are
nearly as old as S on arrival, and many validations share one answer.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.support.ports import free_port, release_port

_PASSED = "/token_service.v1.TokenService/ValidateToken"
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 250)]
_PATIENCE = 2.0


class Gateway:
    """A gateway with the certificate of the first node."""

    def __init__(self, directory: Path, upstream: str, delay: float) -> None:
        """`delay`: seconds from a question to its answer, unless the node takes longer."""
        self._directory = directory
        self._upstream = upstream
        self._delay = delay
        self._port = free_port()

    async def __aenter__(self) -> Self:
        roots, certificate, key = (
            (self._directory / name).read_bytes() for name in ("authority.pem", "node0.pem", "node0.key")
        )
        self._channel = grpc.aio.secure_channel(
            self._upstream, grpc.ssl_channel_credentials(roots), options=_OPTIONS
        )
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_PASSED)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers([_Handlers(self._answer)])
        self._server.add_secure_port(self.address, grpc.ssl_server_credentials([(key, certificate)]))
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop(None)
        await self._channel.close()
        release_port(self._port)

    @property
    def address(self) -> str:
        """`host:port` to connect to."""
        return f"127.0.0.1:{self._port}"

    async def _answer(self, question: bytes, context: Any) -> bytes:
        due = asyncio.get_running_loop().time() + self._delay
        try:
            answer: bytes = await self._call(question, timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
            raise
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        return answer


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def service(self, handler_call_details: Any) -> Any:
        handler = grpc.unary_unary_rpc_method_handler if handler_call_details.method == _PASSED else None
        return handler(self._answer) if handler is not None else grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(_request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "this gateway forwards only ValidateToken")
    raise AssertionError
