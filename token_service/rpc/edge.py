"""The one wrapper around every handler.

It says who calls and whether that caller may, bounds how many calls run and how long, reads the request and
turns every failure into a status. Handlers are wrapped once, when they are registered: an interceptor would
cost a chain of coroutines for each call.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from token_service.core.access.caller import Caller
from token_service.core.access.permissions import Permission
from token_service.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    ServiceError,
)
from token_service.rpc.authorizer import Authorizer
from token_service.wire import error_to_status

_RETRY_AFTER: Final = 0.5
"""Seconds after which a caller may try an overloaded server again."""

Context = grpc.aio.ServicerContext[Any, Any]
Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]

_Request = TypeVar("_Request", bound=Message)

logger = logging.getLogger(__name__)


class _Call:
    """A call that is being worked on and must end in time."""

    __slots__ = ("overdue", "task", "until")

    def __init__(self, task: asyncio.Task[Any] | None, until: float) -> None:
        self.task = task
        self.until = until
        self.overdue = False


class Edge:
    """Wraps handlers. `running` is how many unary calls are being worked on."""

    def __init__(
        self, authorizer: Authorizer, *, max_calls: int, default_deadline: float, max_deadline: float
    ) -> None:
        """Deadlines in seconds: for a call without one, and the latest there is."""
        self._authorizer = authorizer
        self._max_calls = max_calls
        self._default_deadline = default_deadline
        self._max_deadline = max_deadline
        self._calls: set[_Call] = set()
        self.running = 0

    def sweep(self) -> None:
        """End calls whose deadline has passed.

        To be called about once a second: far cheaper than a timer for each call.
        """
        now = asyncio.get_running_loop().time()
        for call in self._calls:
            if call.task is not None and now > call.until and not call.overdue:
                call.overdue = True
                call.task.cancel()

    def unary(
        self,
        method: str,
        permission: Permission | None,
        request_type: type[_Request],
        handle: Callable[[_Request, Caller | None], Awaitable[Message | bytes]],
        *,
        at_once: Callable[[bytes], bytes | None] | None = None,
        patient: bool = False,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a unary method.

        `permission`: None admits everybody, unidentified (the caller is None then). `at_once` may answer the
        encoded request, without waiting for anything; if it returns None, `handle` answers. `patient`: a call
        without a deadline has the latest one instead of the default.
        """
        parse = request_type.FromString
        identify = self._authorizer.identify
        default_deadline = self._max_deadline if patient else self._default_deadline
        max_deadline = self._max_deadline

        async def call(data: bytes, context: Context) -> Message | bytes:
            try:
                caller: Caller | None = None
                if permission is not None:
                    caller = identify(context)
                    caller.require(permission)
                if self.running >= self._max_calls:
                    raise OverloadedError(retry_after=_RETRY_AFTER)
                self.running += 1
                try:
                    if at_once is not None:
                        answer = at_once(data)
                        if answer is not None:
                            return answer
                    request = parse(data)
                    # A nearer deadline of the caller's own ends the call without our doing.
                    left: float | None = context.time_remaining()
                    if left is not None and left <= max_deadline:
                        return await handle(request, caller)
                    return await self._in_time(
                        handle(request, caller), default_deadline if left is None else max_deadline
                    )
                finally:
                    self.running -= 1
            except Exception as error:  # noqa: BLE001  # the boundary: everything becomes a status
                status = status_of(error, method)
            except asyncio.CancelledError as error:
                # The caller went away or the server stops. Otherwise something cancelled by mistake, and the
                # caller still waits.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                status = status_of(error, method)
            return await end(context, status)

        return grpc.unary_unary_rpc_method_handler(call, None, _serialize)

    async def _in_time(self, answer: Awaitable[Message | bytes], seconds: float) -> Message | bytes:
        call = _Call(asyncio.current_task(), asyncio.get_running_loop().time() + seconds)
        self._calls.add(call)
        try:
            return await answer
        except asyncio.CancelledError:
            if call.overdue and call.task is not None and call.task.uncancel() == 0:
                raise DeadlineExceededError from None
            raise
        finally:
            self._calls.discard(call)

    def stream(
        self,
        method: str,
        permission: Permission,
        request_type: type[_Request],
        handle: Callable[[_Request, Context, Caller], Awaitable[None]],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of a method that answers with a stream.

        `handle` writes bytes to the context; it limits its streams itself.
        """
        parse = request_type.FromString
        identify = self._authorizer.identify

        async def call(data: bytes, context: Context) -> None:
            try:
                caller = identify(context)
                caller.require(permission)
                await handle(parse(data), context, caller)
            except grpc.aio.InternalError:
                # A message could not be sent: the reader has gone, although its cancellation has not come
                # through yet.
                raise asyncio.CancelledError from None
            except Exception as error:  # noqa: BLE001  # the boundary: everything becomes a status
                status = status_of(error, method)
            else:
                return
            if not context.done():
                await end(context, status)

        return grpc.unary_stream_rpc_method_handler(call)


def status_of(error: BaseException, method: str) -> Status:
    """The status that says `error`.

    What nobody expected is logged, in one line, and shown as INTERNAL without its text.
    """
    if isinstance(error, DecodeError):
        # Its text may quote the request.
        error = InvalidRequestError.of("request", "is not a message of this method's type in valid UTF-8")
    elif not isinstance(error, ServiceError):
        error_id = secrets.token_hex(8)
        logger.error("%s failed, error_id %s", method, error_id, exc_info=error)
        error = InternalError(metadata={"error_id": error_id})
    return error_to_status(error)


async def end(context: Context, status: Status) -> NoReturn:
    """End a call with a status."""
    code, message, trailers = status
    try:
        await context.abort(code, message, trailers)
    except grpc.aio.InternalError:  # nobody is there to hear it
        raise asyncio.CancelledError from None


def _serialize(answer: Message | bytes) -> bytes:
    return answer if type(answer) is bytes else answer.SerializeToString()  # type: ignore[union-attr]  # bytes has no subclass here
