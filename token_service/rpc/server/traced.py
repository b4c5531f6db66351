"""Traces of calls."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc

from token_service.rpc.server.reception import Context
from token_service.telemetry import Tracer
from token_service.telemetry.trace_context import parent_of

_STATUS: Final = "rpc.response.status_code"
_OWN_FAILURES: Final = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Status codes that OpenTelemetry's conventions count as errors of the server."""


def traced(
    path: str, handler: grpc.RpcMethodHandler[Any, Any], tracer: Tracer
) -> grpc.RpcMethodHandler[Any, Any]:
    """Wrap `handler` to trace each call, as a child of the caller's span, with its method, status and error reason."""
    handle: Any = handler.stream_unary or handler.stream_stream  # declared for servers with threads
    method = path.removeprefix("/")
    attributes = {"rpc.system.name": "grpc", "rpc.method": method}

    async def call(requests: object, context: Context) -> Any:
        with tracer.call(method, attributes, parent_of(context.invocation_metadata() or ())) as span:
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
                span.end(_STATUS, status, is_failure=status in _OWN_FAILURES)

    if handler.stream_unary is not None:
        return grpc.stream_unary_rpc_method_handler(call)
    return grpc.stream_stream_rpc_method_handler(call)
