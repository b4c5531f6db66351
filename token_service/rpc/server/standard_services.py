"""The standard gRPC services, health and reflection, with the error handling and limits of the other services.

Unwrapped, an unreadable request gives UNKNOWN and a traceback in the log, an open stream delays shutdown, and a health
watcher that does not read its messages blocks every update of the health.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from token_service.core.access.quotas import Quota
from token_service.errors import OverloadedError, ServiceError, ShuttingDownError
from token_service.rpc.server.edge import end, status_of
from token_service.rpc.server.reception import Context, Reception

_MAX_STREAMS: Final = 1000
"""Streams of both services together. Any connection may open them, and no other limit applies."""
_MAX_STREAMS_OF_CONNECTION: Final = 10
_RETRY_AFTER: Final = 1.0

_T = TypeVar("_T")


class Health(health_pb2_grpc.HealthServicer):
    """Health of each service (grpc.health.v1). Setting it never waits for watchers."""

    def __init__(self) -> None:
        self._status: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, service: str, status: int) -> None:
        """Set the health of a service; the empty name stands for the whole server."""
        if not self._closed:
            self._set(service, status)

    def close(self) -> None:
        """Set every service to NOT_SERVING, permanently."""
        self._closed = True
        for service in self._status:
            self._set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:
        """Return the current health of a service."""
        status = self._status.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND)
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """Write the current health of a service, then every change."""
        last: int | None = None
        while True:
            status = self._status.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                last = status
                await context.write(health_pb2.HealthCheckResponse(status=status))
            else:
                await self._changed.wait()

    def _set(self, service: str, status: int) -> None:
        self._status[service] = status
        self._changed.set()  # wakes current waiters, not later ones
        self._changed.clear()


class PlainServices:
    """Health and reflection. Any caller may use them: they return only public facts."""

    def __init__(self, service_names: Sequence[str], reception: Reception) -> None:
        self.health = Health()
        self._reception = reception
        self._streams = 0
        self._of_connection = Quota("streams", _MAX_STREAMS_OF_CONNECTION, retry_after=_RETRY_AFTER)
        self._closing = asyncio.Event()
        registrar = _Registrar()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, registrar)  # type: ignore[arg-type]  # implements the part of a server that it uses
        servicer = reflection.aio.ReflectionServicer([*service_names, reflection.SERVICE_NAME])
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registrar)  # type: ignore[no-untyped-call]
        self.methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]] = {
            path: self._behaved(path, handler) for path, handler in registrar.methods.items()
        }

    async def close(self) -> None:
        """Report NOT_SERVING permanently, and end the streams."""
        self.health.close()
        await asyncio.sleep(0)  # watchers receive NOT_SERVING first
        self._closing.set()

    def _behaved(self, path: str, handler: Any) -> grpc.RpcMethodHandler[Any, Any]:
        parse, serialize = handler.request_deserializer, handler.response_serializer

        if handler.unary_unary is not None:

            async def unary(_: object, context: Context) -> Any:
                try:
                    request = parse(await self._reception.read(context, context.peer()))
                except (DecodeError, ServiceError) as error:
                    return await end(context, status_of(error, path))
                return await handler.unary_unary(request, context)

            return grpc.stream_unary_rpc_method_handler(unary, None, serialize)

        if handler.unary_stream is not None:

            async def watch(_: object, context: Context) -> None:
                try:
                    request = parse(await self._reception.read(context, context.peer()))
                    with self._one_more(context.peer()):
                        await self._until_closing(handler.unary_stream(request, context))
                except (DecodeError, ServiceError) as error:
                    await end(context, status_of(error, path))
                await end(context, status_of(ShuttingDownError(), path))

            return grpc.stream_stream_rpc_method_handler(watch, None, serialize)

        async def converse(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            try:
                with self._one_more(context.peer()):
                    async for answer in handler.stream_stream(self._parsed(parse, requests), context):
                        yield answer
            except (DecodeError, OverloadedError) as error:
                await end(context, status_of(error, path))

        return grpc.stream_stream_rpc_method_handler(converse, None, serialize)

    @contextmanager
    def _one_more(self, connection: str) -> Iterator[None]:
        if self._streams >= _MAX_STREAMS:
            raise OverloadedError("the server has as many streams as it allows", retry_after=_RETRY_AFTER)
        with self._of_connection.holding(connection):
            self._streams += 1
            try:
                yield
            finally:
                self._streams -= 1

    async def _parsed(
        self, parse: Callable[[bytes], Any], requests: AsyncIterator[bytes]
    ) -> AsyncIterator[Any]:
        while True:
            data = await self._until_closing(_next(requests))
            if data is None:
                return
            yield parse(data)

    async def _until_closing(self, work: Coroutine[Any, Any, _T]) -> _T | None:
        """Return the result of `work`; None if the server closes first."""
        task = asyncio.create_task(work)
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, closing):
                each.cancel()
            await asyncio.wait({task, closing})


class _Registrar:
    """Collects the methods that generated code registers with a server."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore generic handlers: generated code also registers each method."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service."""
        self.methods.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


async def _next(requests: AsyncIterator[bytes]) -> bytes | None:
    return await anext(requests, None)
