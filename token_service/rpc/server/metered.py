"""Metrics of calls."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import grpc

from token_service.rpc.server.reception import Context
from token_service.telemetry import Histogram


def metered(
    path: str, handler: grpc.RpcMethodHandler[Any, Any], duration: Histogram
) -> grpc.RpcMethodHandler[Any, Any]:
    """Wrap a unary `handler` to record the duration of each call, in seconds, with its method and its status."""
    handle: Any = handler.stream_unary  # declared for servers with threads
    method = path.removeprefix("/")

    async def call(requests: object, context: Context) -> Any:
        began = perf_counter()
        status = "OK"
        try:
            return await handle(requests, context)
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            status = context.code().name
            raise
        finally:
            duration.record(perf_counter() - began, method, status)

    return grpc.stream_unary_rpc_method_handler(call)
