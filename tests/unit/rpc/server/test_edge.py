"""The wrapper around every handler, over real calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.support.deadline import eventually
from tests.unit.rpc.serving import complaints, refused
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    InvalidReason,
    InvalidTokenError,
    SessionNotFoundError,
    StreamEndedError,
)
from token_service.rpc.server.authorizer import Authorizer, TrustingAuthorizer
from token_service.rpc.server.deadlines import Deadlines
from token_service.rpc.server.edge import CallLimits, Edge
from token_service.rpc.server.reception import Reception
from token_service.telemetry import request_scope
from token_service.v1 import session_service_pb2 as pb

REQUEST = pb.GetSessionRequest(session_id="s").SerializeToString()


class Fixed(TrustingAuthorizer):
    """An authorizer with one caller, or none without permissions."""

    def __init__(self, *permissions: Permission) -> None:
        self.granted = frozenset(permissions)

    def identify(self, peer: Any) -> Caller:
        if not self.granted:
            raise CallerUnauthenticatedError
        return Caller("me", Rights.of(*self.granted))


class Calls:
    """Calls the handler under test, as a unary method or as a stream."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._unary: Any = channel.unary_unary("/test.Test/Unary")
        self._stream: Any = channel.unary_stream("/test.Test/Stream")
        self._channel = channel

    def __call__(self, data: bytes = REQUEST, **options: Any) -> Any:
        return self._unary(data, **options)

    def stream(self, data: bytes = REQUEST) -> Any:
        return self._stream(data)

    def open(self, method: str) -> Any:
        """Begin a call without its message."""
        return self._channel.stream_stream(f"/test.Test/{method}")()


@asynccontextmanager
async def served(
    handle: Callable[..., Awaitable[Any]],
    *,
    authorizer: Authorizer | None = None,
    permission: Permission | None = Permission.ADMIN_WRITE,
    max_calls: int = 10,
    calls_per_caller: int = 10,
    max_waits: int = 10,
    waits_per_caller: int = 10,
    unread_bytes_per_caller: int = 1_000_000,
    request_timeout: float = 100.0,
    default_deadline: float = 100.0,
    max_deadline: float = 200.0,
    **options: Any,
) -> AsyncIterator[tuple[Calls, Edge]]:
    """Serve `handle` behind an edge and yield its calls and the edge."""
    deadlines = Deadlines()
    edge = Edge(
        authorizer or TrustingAuthorizer(),
        Reception(deadlines, at_once=16, timeout=request_timeout),
        deadlines,
        CallLimits(
            max_calls=max_calls,
            calls_per_caller=calls_per_caller,
            max_waits=max_waits,
            waits_per_caller=waits_per_caller,
            unread_bytes_per_caller=unread_bytes_per_caller,
            default_deadline=default_deadline,
            max_deadline=max_deadline,
        ),
    )
    methods = {
        "Unary": edge.unary("/test.Test/Unary", permission, pb.GetSessionRequest, handle, **options),
        "Stream": edge.stream(
            "/test.Test/Stream", permission or Permission.ADMIN_WRITE, pb.GetSessionRequest, handle
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.02)
            deadlines.sweep()

    sweeping = asyncio.create_task(watch())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Calls(channel), edge
    sweeping.cancel()
    await asyncio.wait([sweeping])
    await server.stop(None)


def answer(text: str = "ok") -> pb.GetSessionResponse:
    return pb.GetSessionResponse(session=pb.Session(session_id=text))


async def test_a_handler_gets_the_request_and_the_caller() -> None:
    async def handle(request: pb.GetSessionRequest, caller: Caller) -> pb.GetSessionResponse:
        return answer(f"{request.session_id} {caller.name}")

    async with served(handle, authorizer=Fixed(Permission.ADMIN_WRITE)) as (call, _):
        assert pb.GetSessionResponse.FromString(await call()).session.session_id == "s me"


async def test_a_handler_may_answer_with_bytes() -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        return b"raw"

    async with served(handle) as (call, _):
        assert await call() == b"raw"


async def test_immediate_answer_bypasses_the_handler() -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        return b"slowly"

    async with served(handle, at_once=lambda data, _: b"at once" if data == REQUEST else None) as (call, _):
        assert await call() == b"at once"
        assert await call(b"") == b"slowly"


@pytest.mark.parametrize(
    ("authorizer", "code", "reason"),
    [
        (Fixed(), "UNAUTHENTICATED", "CALLER_UNAUTHENTICATED"),
        (Fixed(Permission.VALIDATE), "PERMISSION_DENIED", "PERMISSION_DENIED"),
    ],
)
async def test_unauthorized_caller_is_refused_before_the_request_is_read(
    authorizer: Any, code: str, reason: str
) -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        raise AssertionError("called")

    async with served(handle, authorizer=authorizer) as (call, edge):
        for attempt in (call(b"\xff"), call.stream(b"\xff").read()):
            failure = await refused(attempt)
            assert (failure.code, failure.reason) == (code, reason)
        assert edge.running == 0


class Changing(Fixed):
    """An authorizer whose caller can lose its rights."""

    def __init__(self) -> None:
        super().__init__(Permission.ADMIN_WRITE)
        self.identified = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []

    def identify(self, peer: Any) -> Caller:
        self.identified.set()
        return super().identify(peer)

    def rights(self, caller: Caller) -> Rights:
        return Rights.of(*self.granted)

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def grant(self, *permissions: Permission) -> None:
        self.granted = frozenset(permissions)
        for listener in self.listeners:
            listener()


@pytest.mark.parametrize("kind", ["_unary", "_stream"])
@pytest.mark.parametrize("left", [(), (Permission.VALIDATE,)])
async def test_caller_that_loses_its_rights_while_its_request_arrives_is_refused(
    kind: str, left: tuple[Permission, ...]
) -> None:
    async def handle(*_: Any) -> bytes:
        raise AssertionError("called")

    authorizer = Changing()
    async with served(handle, authorizer=authorizer) as (calls, _):
        method = "Unary" if kind == "_unary" else "Stream"
        call: Any = calls.open(method)
        await call.wait_for_connection()
        await authorizer.identified.wait()
        authorizer.grant(*left)
        await call.write(REQUEST)
        failure = await refused(call.read())
        assert (failure.code, failure.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")


async def test_caller_has_its_newest_rights_when_its_request_is_complete() -> None:
    async def handle(_: Any, caller: Caller) -> bytes:
        return ",".join(sorted(caller.permissions)).encode()

    authorizer = Changing()
    async with served(handle, authorizer=authorizer) as (calls, _):
        call: Any = calls.open("Unary")
        await call.wait_for_connection()
        await authorizer.identified.wait()
        authorizer.grant(Permission.ADMIN_WRITE, Permission.VALIDATE)
        await call.write(REQUEST)
        assert await call.read() == b"admin.write,validate"


async def test_public_method_identifies_no_caller() -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        assert caller is Caller.anonymous()
        return b"public"

    async with served(handle, authorizer=Fixed(), permission=None) as (call, _):
        assert await call() == b"public"


async def test_error_becomes_its_status() -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        raise SessionNotFoundError(metadata={"a": "b"}, retry_after=2)

    async with served(handle) as (call, edge):
        failure = await refused(call())
        assert (failure.code, failure.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
        assert (failure.metadata, failure.retry_after) == ({"a": "b"}, 2.0)
        assert edge.running == 0


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret text"),
        ConfigurationError("secret text"),
        InvalidTokenError(InvalidReason.EXPIRED, "secret text"),
        TimeoutError("secret text"),
        asyncio.CancelledError("secret text"),
        ExceptionGroup("secret text", [ValueError("secret text")]),
    ],
    ids=repr,
)
async def test_unexpected_error_is_internal_and_one_log_line(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        raise error

    async with served(handle) as (call, edge):
        with caplog.at_level(logging.INFO):
            failure = await refused(call())
        assert (failure.code, failure.reason, failure.message) == ("INTERNAL", "INTERNAL", "internal error")
        (record,) = (record for record in caplog.records if record.name == "token_service.rpc.server.edge")
        assert len(complaints(caplog)) == 1
        assert record.levelno == logging.ERROR
        assert failure.metadata["error_id"] in record.getMessage()
        assert "/test.Test/Unary" in record.getMessage()
        assert "secret text" not in record.getMessage()
        assert edge.running == 0


async def test_unexpected_error_in_a_stream_is_internal(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(request: Any, context: Any, caller: Any) -> None:
        await context.write(b"first")
        raise RuntimeError("secret text")

    async with served(handle) as (call, _):
        stream = call.stream()
        assert await stream.read() == b"first"
        failure = await refused(stream.read())
        assert (failure.code, failure.reason) == ("INTERNAL", "INTERNAL")
        assert len(complaints(caplog)) == 1


async def test_a_stream_ends_with_the_status_of_its_error() -> None:
    async def handle(request: Any, context: Any, caller: Any) -> None:
        raise StreamEndedError(retry_after=0.0)

    async with served(handle) as (call, _):
        failure = await refused(call.stream().read())
        assert (failure.code, failure.reason, failure.retry_after) == ("ABORTED", "STREAM_ENDED", 0.0)


@pytest.mark.parametrize("data", [b"\xff" * 9, b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b" * 500, b"\x00"])
async def test_bytes_that_are_no_request_are_the_callers_fault(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: Any, caller: Any) -> bytes:
        raise AssertionError("called")

    async with served(handle) as (call, edge):
        for attempt in (call(data), call.stream(data).read()):
            failure = await refused(attempt)
            assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert list(failure.fields) == ["request"]
        assert edge.running == 0
    assert complaints(caplog) == []


async def test_calls_beyond_the_limit_are_refused_and_accepted_later() -> None:
    release = asyncio.Event()

    async def handle(request: Any, caller: Any) -> bytes:
        await release.wait()
        return b"done"

    async with served(handle, max_calls=2) as (call, edge):
        calls = [asyncio.ensure_future(call()) for _ in range(2)]
        await eventually(lambda: edge.running == 2)
        failure = await refused(call())
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert failure.retry_after is not None
        release.set()
        assert await asyncio.gather(*calls) == [b"done", b"done"]
        await eventually(lambda: edge.running == 0)
        assert await call() == b"done"


@pytest.mark.parametrize(
    ("deadlines", "options", "timeout"),
    [
        ({"default_deadline": 0.05}, {}, None),
        ({"max_deadline": 0.05}, {}, 30),
        ({"default_deadline": 30, "max_deadline": 0.05}, {"waits": bool}, None),
    ],
    ids=["none given", "too late", "waiting"],
)
async def test_a_call_ends_at_its_deadline(deadlines: Any, options: Any, timeout: float | None) -> None:
    cancelled = asyncio.Event()

    async def handle(request: Any, caller: Any) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    async with served(handle, **deadlines, **options) as (call, edge):
        failure = await refused(call(timeout=timeout))
        assert (failure.code, failure.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert cancelled.is_set()
        assert (edge.running, edge.waiting, len(edge._deadlines)) == (0, 0, 0)


async def test_the_callers_own_deadline_ends_the_work() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(request: Any, caller: Any) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with served(handle, default_deadline=100.0, max_deadline=100.0) as (call, edge):
        for timeout in (0.1, 1.0, 10.0):
            failure = await refused(call(timeout=timeout))
            assert failure.code == "DEADLINE_EXCEEDED"
            if began.is_set():
                break  # part of the deadline was left when the call arrived
        await asyncio.wait_for(cancelled.wait(), 60)
        await eventually(lambda: edge.running == 0)


async def test_a_caller_that_goes_away_ends_the_work(caplog: pytest.LogCaptureFixture) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(request: Any, caller: Any) -> bytes:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with served(handle) as (call, edge):
        going = call()
        await asyncio.wait_for(began.wait(), 60)
        going.cancel()
        await asyncio.wait_for(cancelled.wait(), 60)
        await eventually(lambda: edge.running == 0)
    assert complaints(caplog) == []


@pytest.mark.parametrize("method", ["Unary", "Stream"])
async def test_headers_are_forgotten_when_the_handler_ends(method: str) -> None:
    # gRPC frees them with the call. Reading them later would show the memory of other calls.
    scopes: list[request_scope.RequestScope | None] = []

    async def handle(*_: Any) -> pb.Session:
        scopes.append(request_scope.current())
        return pb.Session()

    async with served(handle) as (calls, _):
        if method == "Unary":
            await calls(metadata=(("x-request-id", "mine"),))
        else:
            assert [each async for each in calls.stream()] == []
    (scope,) = scopes
    assert scope is not None
    assert request_scope.fields(scope) == {}
