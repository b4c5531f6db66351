"""Ends streams whose reader leaves a message unread."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc

from token_service.errors import ServiceError
from token_service.rpc.server.reception import Context
from token_service.telemetry import request_scope
from token_service.wire import error_to_status


class Endings:
    """The tasks that end unread streams.

    The status follows the unread message. Cancelling the write instead would free nothing: gRPC keeps the call until it
    has a status.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Return the number of streams that are being ended."""
        return len(self._tasks)

    def end(self, context: Context, error: ServiceError) -> None:
        """Start to end a stream with an error."""
        task = asyncio.create_task(_abort(context, error), name="end-unread-stream")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel the tasks that still run. Call it after the server has stopped."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


async def _abort(context: Context, error: ServiceError) -> None:
    code, message, trailers = error_to_status(error, request_scope.request_id())
    with suppress(grpc.aio.AbortError, grpc.aio.InternalError):  # already ended, or disconnected
        await context.abort(code, message, trailers)
