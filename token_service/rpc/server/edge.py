"""The wrapper around every handler.

The wrapper identifies the caller, checks its permission, limits the number and duration of calls, reads the request
and turns every failure into a status. Handlers are wrapped once, at registration: an interceptor would cost a chain of
coroutines for each call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from token_service.core.access.caller import Caller
from token_service.core.access.quotas import Quota
from token_service.core.access.refusals import Refusals
from token_service.core.policies.rights import Permission
from token_service.errors import (
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitedError,
    ServiceError,
)
from token_service.rpc.server.authorizer import Authorizer
from token_service.rpc.server.deadlines import Deadlines
from token_service.rpc.server.reception import Context, Reception
from token_service.rpc.server.request_fields import require_few_fields, shape_of
from token_service.telemetry import Counter, request_scope
from token_service.telemetry.spans import note_error
from token_service.telemetry.unexpected import unexpected
from token_service.wire import error_to_status

_RETRY_AFTER: Final = 0.5
"""Seconds after which a caller may retry on an overloaded server."""

_SMALL_ANSWER: Final = 64 * 1024
"""Bytes. Only larger responses count as unread until the caller has read them."""

Status = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]

_Request = TypeVar("_Request", bound=Message)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Limits on the number and duration of concurrent unary calls. Times in seconds."""

    max_calls: int
    calls_per_caller: int
    max_waits: int
    waits_per_caller: int
    unread_bytes_per_caller: int
    default_deadline: float
    """Deadline of a call that has none."""
    max_deadline: float


class Edge:
    """Wraps handlers.

    `receiving` counts calls whose request is incomplete, `running` unary calls in progress, `waiting` calls that wait
    for subscribers.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        reception: Reception,
        deadlines: Deadlines,
        limits: CallLimits,
        refusals: Refusals | None = None,
        errors: Counter | None = None,
    ) -> None:
        """`refusals` records the calls that are refused; `errors` counts all calls that end with an error."""
        self._refusals = refusals
        self._errors = errors
        self._authorizer = authorizer
        self._changes = 0
        """How often the rights of callers may have changed."""
        authorizer.on_change(self._rights_changed)
        self._reception = reception
        self._deadlines = deadlines
        self._limits = limits
        self._calls = Quota("concurrent calls", limits.calls_per_caller, retry_after=_RETRY_AFTER)
        self._waits = Quota("waiting calls", limits.waits_per_caller, retry_after=_RETRY_AFTER)
        self._unread = Quota(
            "bytes of unread answers", limits.unread_bytes_per_caller, retry_after=_RETRY_AFTER
        )
        self.receiving = 0
        self.running = 0
        self.waiting = 0

    def limit_calls(self, most: int, per_caller: int) -> None:
        """Change the number of concurrent calls, of all callers and of each. Running calls go on."""
        self._limits = replace(self._limits, max_calls=most, calls_per_caller=per_caller)
        self._calls.limit = per_caller

    def unary(
        self,
        method: str,
        permission: Permission | None,
        request_type: type[_Request],
        handle: Callable[[_Request, Caller], Awaitable[Message | bytes]],
        *,
        at_once: Callable[[bytes, Caller], bytes | None] | None = None,
        waits: Callable[[_Request], bool] | None = None,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap the handler of a unary method.

        `permission`: None admits every caller, unidentified (as `Caller.anonymous()`). `at_once` may answer the
        encoded request without blocking; if it returns None, `handle` answers. A request that `waits` for subscribers
        has the maximum deadline instead of the default, and is not counted as running.
        """
        parse = request_type.FromString
        shape = shape_of(request_type.DESCRIPTOR)
        identify = self._authorizer.identifier(method)

        async def work(context: Context) -> bytes:
            caller, changes = Caller.anonymous(), self._changes
            if permission is not None:
                identified = identify(context)
                caller = identified if isinstance(identified, Caller) else await identified
            try:
                if permission is not None:
                    caller.require(permission)
                key = key_of(caller, context)
                data = await self._receive(context, key)
                if permission is not None and changes != self._changes:
                    caller = self._with_current_rights(caller)
                    caller.require(permission)
                require_few_fields(data, shape)
                self._enter(key)
                entered = True
                try:
                    answer: Message | bytes | None = None
                    if at_once is not None:
                        answer = at_once(data, caller)
                    if answer is None:
                        request = parse(data)
                        if waits is None or not waits(request):
                            answer = await self._in_time(handle(request, caller), context)
                        else:
                            with self._waiting(key):
                                self._leave(key)
                                entered = False
                                answer = await self._in_time(handle(request, caller), context, patient=True)
                finally:
                    if entered:
                        self._leave(key)
                encoded = answer if type(answer) is bytes else answer.SerializeToString()  # type: ignore[union-attr]  # bytes has no subclass here
                if len(encoded) > _SMALL_ANSWER:
                    self._hold_unread(key, len(encoded), context)
            except (PermissionDeniedError, OverloadedError, RateLimitedError) as error:
                if self._refusals is not None:
                    self._refusals.note(caller, method.rpartition("/")[2], error)
                raise
            return encoded

        # gRPC keeps the exception that ends a call, and with it this frame, until a garbage collection. `work` holds
        # the request in a frame of its own.
        async def call(_: object, context: Context) -> bytes:
            scope = request_scope.begin(context.invocation_metadata)
            try:
                return await work(context)
            except Exception as error:  # noqa: BLE001  # the boundary: everything becomes a status
                status = self._status_of(error, method)
            except asyncio.CancelledError as error:
                # With a pending cancellation, the caller has disconnected or the server is stopping. Otherwise the
                # cancellation is a bug, and the caller still waits for a status.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                status = self._status_of(error, method)
            finally:
                scope.end()
            return await end(context, status)

        return grpc.stream_unary_rpc_method_handler(call)

    def _status_of(self, error: BaseException, method: str) -> Status:
        """Count an error, and convert it to a status."""
        error = public_error(error, method)
        if self._errors is not None:
            self._errors.add(1, "grpc", error.reason.value)
        note_error(error.reason.value)
        return error_to_status(error, request_scope.request_id())

    def _rights_changed(self) -> None:
        self._changes += 1

    def _with_current_rights(self, caller: Caller) -> Caller:
        """Return the caller as it is after a change while its proof was checked or its request arrived."""
        return replace(caller, rights=self._authorizer.rights(caller))

    async def _receive(self, context: Context, key: Hashable) -> bytes:
        """Receive the request of a call. Until then the call counts against its caller's quota, but not as running:
        calls that never send a request must not block the calls of other callers.
        """
        self._calls.take(key)
        self.receiving += 1
        try:
            return await self._reception.read(context, key)
        finally:
            self.receiving -= 1
            self._calls.give_back(key)

    def _enter(self, key: Hashable) -> None:
        """Count a running call. Raises `OverloadedError`."""
        if self.running >= self._limits.max_calls:
            raise OverloadedError(retry_after=_RETRY_AFTER)
        self._calls.take(key)
        self.running += 1

    def _leave(self, key: Hashable) -> None:
        self._calls.give_back(key)
        self.running -= 1

    @contextmanager
    def _waiting(self, key: Hashable) -> Iterator[None]:
        """Count a waiting call. Raises `OverloadedError`."""
        if self.waiting >= self._limits.max_waits:
            raise OverloadedError(
                "the server has as many waiting calls as it allows", retry_after=_RETRY_AFTER
            )
        with self._waits.holding(key):
            self.waiting += 1
            try:
                yield
            finally:
                self.waiting -= 1

    async def _in_time(
        self, answer: Awaitable[Message | bytes], context: Context, *, patient: bool = False
    ) -> Message | bytes:
        limits = self._limits
        left: float | None = context.time_remaining()
        if left is not None and left <= limits.max_deadline:
            return await answer  # gRPC enforces the caller's own deadline
        seconds = limits.default_deadline if left is None and not patient else limits.max_deadline
        return await self._deadlines.within(seconds, answer)

    def _hold_unread(self, key: Hashable, size: int, context: Context) -> None:
        """Count a large response until its call ends: gRPC buffers it until the caller has read it.

        Raises `OverloadedError`.
        """
        self._unread.take(key, size)
        context.add_done_callback(lambda _: self._unread.give_back(key, size))  # type: ignore[arg-type]  # any callable will do

    def stream(
        self,
        method: str,
        permission: Permission,
        request_type: type[_Request],
        handle: Callable[[_Request, Context, Caller], Awaitable[None]],
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Wrap the handler of a streaming method.

        `handle` writes bytes to the context and limits its streams itself.
        """
        parse = request_type.FromString
        shape = shape_of(request_type.DESCRIPTOR)
        identify = self._authorizer.identifier(method)

        async def work(context: Context) -> None:
            changes = self._changes
            identified = identify(context)
            caller = identified if isinstance(identified, Caller) else await identified
            try:
                caller.require(permission)
                key = key_of(caller, context)
                data = await self._receive(context, key)
                if changes != self._changes:
                    caller = self._with_current_rights(caller)
                    caller.require(permission)
                require_few_fields(data, shape)
                await handle(parse(data), context, caller)
            except (PermissionDeniedError, OverloadedError, RateLimitedError) as error:
                if self._refusals is not None:
                    self._refusals.note(caller, method.rpartition("/")[2], error)
                raise

        async def call(_: object, context: Context) -> None:
            scope = request_scope.begin(context.invocation_metadata)
            try:
                await work(context)
            except grpc.aio.InternalError:
                # A message could not be sent: the reader has disconnected, and its cancellation has not arrived yet.
                raise asyncio.CancelledError from None
            except Exception as error:  # noqa: BLE001  # the boundary: everything becomes a status
                status = self._status_of(error, method)
            else:
                return
            finally:
                scope.end()
            if not context.done():
                await end(context, status)

        return grpc.stream_stream_rpc_method_handler(call)


def key_of(caller: Caller, context: Context) -> Hashable:
    """Return the quota key of a call: the identity of its caller, else its connection."""
    return caller.identity or context.peer()


def status_of(error: BaseException, method: str) -> Status:
    """Convert an error to a status. See `public_error`."""
    return error_to_status(public_error(error, method), request_scope.request_id())


def public_error(error: BaseException, method: str) -> ServiceError:
    """Return the error that a caller may see.

    An unexpected error is logged in one line and becomes INTERNAL without its text.
    """
    if isinstance(error, DecodeError):
        # Its text may quote the request.
        return InvalidRequestError.of("request", "is not a message of this method's type in valid UTF-8")
    return error if isinstance(error, ServiceError) else unexpected(error, method, logger)


async def end(context: Context, status: Status) -> NoReturn:
    """End a call with a status."""
    code, message, trailers = status
    try:
        await context.abort(code, message, trailers)
    except grpc.aio.InternalError:  # the caller has disconnected
        raise asyncio.CancelledError from None
