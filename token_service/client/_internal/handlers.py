"""Wrappers for gRPC method handlers of all four kinds."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import wraps
from typing import Any

import grpc


def preceded_by(
    first: Callable[[grpc.ServicerContext], None], handler: grpc.RpcMethodHandler[Any, Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a `grpc.server` handler that calls `first` in its thread before its behavior."""

    def wrap(behavior: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(behavior)
        def both(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
            first(context)
            return behavior(request, context, *rest)

        return both

    return _wrapped(handler, wrap)


def preceded_by_async(
    first: Callable[[Any], Awaitable[None]], handler: grpc.RpcMethodHandler[Any, Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a `grpc.aio.server` handler that awaits `first` before its asynchronous behavior."""

    def wrap(behavior: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(behavior)
        async def generator(request: Any, context: Any) -> AsyncIterator[Any]:
            await first(context)
            async with aclosing(behavior(request, context)) as answers:
                async for answer in answers:
                    yield answer

        @wraps(behavior)
        async def coroutine(request: Any, context: Any) -> Any:
            await first(context)
            return await behavior(request, context)

        return generator if inspect.isasyncgenfunction(behavior) else coroutine

    return _wrapped(handler, wrap)


def is_async(handler: grpc.RpcMethodHandler[Any, Any]) -> bool:
    """Return whether `grpc.aio.server` runs the behavior of a handler in the event loop; otherwise, in a thread."""
    return _is_async(getattr(handler, _kind(handler)))


def in_context_of_call(handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a `grpc.aio.server` handler that runs in the context variables of the calling task.

    gRPC runs plain functions in threads, which have none of these variables.
    """
    if is_async(handler):
        return handler
    call = contextvars.copy_context()

    def wrap(behavior: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(behavior)
        def unary(request: Any, context: grpc.ServicerContext) -> Any:
            return call.run(behavior, request, context)

        @wraps(behavior)
        def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            # A generator runs in the context of each `next`, not in the context of the call that created it.
            answers = iter(call.run(behavior, request, context))
            try:
                while True:
                    try:
                        answer = call.run(next, answers)
                    except StopIteration:
                        return
                    yield answer
            finally:
                close = getattr(answers, "close", None)
                if close is not None:
                    call.run(close)

        return stream if handler.response_streaming else unary

    return _wrapped(handler, wrap)


def _is_async(behavior: Any) -> bool:
    """Return whether gRPC treats the behavior as asynchronous."""
    return inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior)


def _kind(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    return "_".join(
        "stream" if streaming else "unary"
        for streaming in (handler.request_streaming, handler.response_streaming)
    )


def _wrapped(
    handler: grpc.RpcMethodHandler[Any, Any], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> grpc.RpcMethodHandler[Any, Any]:
    kind = _kind(handler)
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    wrapped: grpc.RpcMethodHandler[Any, Any] = make(
        wrap(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer
    )
    return wrapped
