from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from tests.support.deadline import eventually_sync
from tests.support.fake_token_service import FakeTokenService
from tests.support.ports import free_port, release_port
from tests.unit.client.conftest import config_for
from token_service.client._internal.handlers import preceded_by
from token_service.client.interceptors import AioAuthInterceptor, AuthInterceptor, AuthRules, current_claims
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import CallerUnauthenticatedError, ConfigurationError, PermissionDeniedError
from token_service.wire import error_from_rpc

RULES = AuthRules(
    scopes={"/shop.Orders/Cancel": ["orders:write", "orders:read"], "/shop.Admin/*": ["admin"]},
    default_scopes=["read"],
    public=["/shop.Health/*", "/shop.Admin/Version"],
)
METHODS = ["Orders/List", "Orders/Cancel", "Admin/Drop", "Admin/Version", "Health/Check"]


def _subject() -> bytes:
    try:
        return current_claims().subject.encode()
    except LookupError:
        return b"nobody"


def sync_handlers(kind: str) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    def drain(requests: Any) -> None:
        if not isinstance(requests, bytes):
            list(requests)

    def unary(request: Any, context: Any) -> bytes:
        drain(request)
        return _subject()

    def stream(request: Any, context: Any) -> Iterator[bytes]:
        drain(request)
        yield _subject()
        yield _subject()

    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    return {method: make(unary if kind.endswith("unary") else stream) for method in METHODS}


def aio_handlers(kind: str) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    async def drain(requests: Any) -> None:
        if hasattr(requests, "__aiter__"):
            async for _ in requests:
                pass

    async def unary(request: Any, context: Any) -> bytes:
        await drain(request)
        await asyncio.sleep(0)
        return _subject()

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        await drain(request)
        yield _subject()
        await asyncio.sleep(0)
        yield _subject()

    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    return {method: make(unary if kind.endswith("unary") else stream) for method in METHODS}


def _add(server: Any, handlers: dict[str, Any]) -> None:
    services: dict[str, dict[str, Any]] = {}
    for method, handler in handlers.items():
        service, _, name = method.partition("/")
        services.setdefault(f"shop.{service}", {})[name] = handler
    for service, methods in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))


@contextmanager
def sync_server(validator: SyncTokenValidator, rules: AuthRules, kind: str, **options: Any) -> Iterator[str]:
    port = free_port()
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[AuthInterceptor(validator, rules, **options)])
    _add(server, sync_handlers(kind))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)
        release_port(port)


@asynccontextmanager
async def aio_server(
    validator: TokenValidator, rules: AuthRules, kind: str, handlers: Any = None, pool: Any = None
) -> AsyncIterator[str]:
    port = free_port()
    server = grpc.aio.server(pool, interceptors=[AioAuthInterceptor(validator, rules)])
    _add(server, handlers or aio_handlers(kind))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        release_port(port)


def call(address: str, method: str, kind: str, *metadata: tuple[str, str]) -> bytes:
    with grpc.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        multi: Any = getattr(channel, kind)(f"/shop.{method}")
        request: Any = iter([b"1", b"2"]) if kind.startswith("stream") else b"1"
        answer = multi(request, metadata=metadata, timeout=60)
        if kind.endswith("unary"):
            return bytes(answer)
        answers = set(answer)
        assert len(answers) == 1
        return bytes(answers.pop())


def refusal(address: str, method: str, kind: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(address, method, kind, *metadata)
    error: Any = caught.value
    status = rpc_status.from_call(error)
    info = ErrorInfo()
    if status is not None:
        status.details[0].Unpack(info)
        assert info.domain == "token_service"
    return error.code(), info.reason


def exercise(service: FakeTokenService, address: str, kind: str) -> None:
    now = time.time()

    def bearer(**claims: Any) -> tuple[str, str]:
        return "authorization", f"Bearer {service.mint.token(now, **claims)}"

    good = bearer()
    code = grpc.StatusCode
    assert call(address, "Orders/List", kind, good) == b"user-1"
    assert (
        call(address, "Orders/List", kind, ("authorization", good[1].replace("Bearer", "bearer")))
        == b"user-1"
    )
    assert (
        call(address, "Orders/Cancel", kind, bearer(scope="orders:write orders:read", sub="alice"))
        == b"alice"
    )
    assert call(address, "Admin/Drop", kind, bearer(scope="admin")) == b"user-1"
    assert call(address, "Health/Check", kind) == b"nobody"
    assert call(address, "Admin/Version", kind) == b"nobody"
    assert call(address, "Health/Check", kind, ("authorization", "Bearer broken")) == b"nobody"
    lacks = code.PERMISSION_DENIED, "INSUFFICIENT_SCOPE"
    assert refusal(address, "Orders/Cancel", kind, good) == lacks
    assert refusal(address, "Admin/Drop", kind, good) == lacks
    assert refusal(address, "Orders/List", kind, bearer(scope="write")) == lacks
    nobody = code.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED"
    for metadata in (
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic dXNlcjpwYXNz")],
        [("authorization", good[1].removeprefix("Bearer "))],
        [("authorization", good[1] + " more")],
        [good, good],
    ):
        assert refusal(address, "Orders/List", kind, *metadata) == nobody
    assert refusal(address, "Orders/Missing", kind) == nobody
    for claims, reason in (
        ({"exp": int(now) - 5, "iat": int(now) - 50, "nbf": ...}, "EXPIRED"),
        ({"aud": "other"}, "WRONG_AUDIENCE"),
        ({"iss": "https://other.test"}, "WRONG_ISSUER"),
        ({"cnf": {"jkt": "x" * 43}}, "PROOF_MISSING"),
        ({"cnf": {"x5t#S256": "x" * 43}}, "PROOF_MISSING"),
    ):
        assert refusal(address, "Orders/List", kind, bearer(**claims)) == (code.UNAUTHENTICATED, reason)
    assert refusal(address, "Orders/List", kind, ("authorization", "Bearer a.b.c")) == (
        code.UNAUTHENTICATED,
        "MALFORMED",
    )
    service.revoke(subject="eve")

    def refused() -> bool:
        try:
            call(address, "Orders/List", kind, bearer(sub="eve"))
        except grpc.RpcError:
            return True
        return False

    eventually_sync(refused)
    assert refusal(address, "Orders/List", kind, bearer(sub="eve")) == (code.UNAUTHENTICATED, "REVOKED")
    with pytest.raises(grpc.RpcError) as caught:
        call(address, "Orders/Missing", kind, good)
    assert caught.value.code() == code.UNIMPLEMENTED


KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@pytest.mark.parametrize("shape", KINDS)
def test_sync_server_enforces_the_rules(service: FakeTokenService, shape: str) -> None:
    with SyncTokenValidator(config_for(service)) as validator:
        assert validator.wait_ready(60)
        with sync_server(validator, RULES, shape) as address:
            exercise(service, address, shape)


@pytest.mark.parametrize("shape", KINDS)
async def test_aio_server_enforces_the_rules(service: FakeTokenService, shape: str) -> None:
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        async with aio_server(validator, RULES, shape) as address:
            await asyncio.to_thread(exercise, service, address, shape)


@pytest.mark.parametrize("shape", KINDS)
async def test_aio_server_enforces_the_rules_for_plain_handlers(
    service: FakeTokenService, shape: str
) -> None:
    """gRPC runs plain handlers in the only thread, so leaked claims would reach the next call."""
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        with ThreadPoolExecutor(1) as pool:
            async with aio_server(validator, RULES, shape, sync_handlers(shape), pool) as address:
                await asyncio.to_thread(exercise, service, address, shape)


@pytest.mark.parametrize("shape", KINDS)
async def test_plain_handlers_need_no_thread_pool(service: FakeTokenService, shape: str) -> None:
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        async with aio_server(validator, RULES, shape, sync_handlers(shape)) as address:
            good = ("authorization", f"Bearer {service.mint.token(time.time())}")
            answer = await asyncio.to_thread(call, address, "Orders/List", shape, good)
            assert answer == b"user-1"


async def test_a_plain_stream_that_is_not_a_generator_has_the_claims_and_is_closed(
    service: FakeTokenService,
) -> None:
    class Answers:
        def __init__(self) -> None:
            self.left = 2
            self.closed: list[bytes] = []

        def __iter__(self) -> Answers:
            return self

        def __next__(self) -> bytes:
            if not self.left:
                raise StopIteration
            self.left -= 1
            return _subject()

        def close(self) -> None:
            self.closed.append(_subject())

    answers = Answers()
    handlers: dict[str, Any] = {"Orders/List": grpc.unary_stream_rpc_method_handler(lambda *_: answers)}
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        async with aio_server(validator, RULES, "unary_stream", handlers) as address:
            good = ("authorization", f"Bearer {service.mint.token(time.time())}")
            assert await asyncio.to_thread(call, address, "Orders/List", "unary_stream", good) == b"user-1"
    assert answers.closed == [b"user-1"]


@pytest.mark.parametrize("shape", KINDS)
def test_only_calls_that_need_the_token_service_wait_for_it(service: FakeTokenService, shape: str) -> None:
    service.refuse_streams = True  # no freshness is proven, so the validator asks the service
    service.remote_gate.clear()
    now = time.time()

    def bearer(**claims: Any) -> tuple[str, str]:
        return "authorization", f"Bearer {service.mint.token(now, **claims)}"

    with (
        SyncTokenValidator(config_for(service, remote_timeout=60.0)) as validator,
        sync_server(validator, RULES, shape, max_waiting=4) as address,
        ThreadPoolExecutor(4) as callers,
    ):
        waiting = [
            callers.submit(call, address, "Orders/List", shape, bearer(sub=f"waits-{n}")) for n in range(4)
        ]
        eventually_sync(lambda: len(service.remote_calls) == 4)
        try:
            code = grpc.StatusCode
            assert call(address, "Health/Check", shape) == b"nobody"
            assert refusal(address, "Orders/List", shape)[1] == "CALLER_UNAUTHENTICATED"
            for refused, reason in (
                (bearer(exp=int(now) - 5, iat=int(now) - 50, nbf=...), "EXPIRED"),
                (bearer(aud="other"), "WRONG_AUDIENCE"),
                (("authorization", "Bearer a.b.c"), "MALFORMED"),
            ):
                assert refusal(address, "Orders/List", shape, refused) == (code.UNAUTHENTICATED, reason)
            for method in ("Orders/List", "Orders/Missing"):
                assert refusal(address, method, shape, bearer()) == (code.UNAVAILABLE, "REPLICA_STALE")
            assert [future.done() for future in waiting] == [False] * 4
        finally:
            service.remote_gate.set()
        assert [future.result() for future in waiting] == [f"waits-{n}".encode() for n in range(4)]


@pytest.mark.parametrize("shape", KINDS)
def test_handler_runs_only_after_the_token_service_has_decided(service: FakeTokenService, shape: str) -> None:
    service.refuse_streams = True
    service.revoke(subject="eve")
    now = time.time()

    def bearer(**claims: Any) -> tuple[str, str]:
        return "authorization", f"Bearer {service.mint.token(now, **claims)}"

    with (
        SyncTokenValidator(config_for(service)) as validator,
        sync_server(validator, RULES, shape, max_waiting=1) as address,
    ):
        code = grpc.StatusCode
        for _ in range(3):  # a waiting place that is not returned would be missing here
            assert call(address, "Orders/List", shape, bearer(sub="alice")) == b"alice"
        assert refusal(address, "Orders/List", shape, bearer(sub="eve")) == (code.UNAUTHENTICATED, "REVOKED")
        assert refusal(address, "Orders/Missing", shape, bearer(sub="eve"))[0] == code.UNAUTHENTICATED
        assert refusal(address, "Orders/Missing", shape, bearer())[0] == code.UNIMPLEMENTED
        bound = bearer(cnf={"jkt": "x" * 43})
        assert refusal(address, "Orders/List", shape, bound) == (code.UNAUTHENTICATED, "PROOF_MISSING")
        lacks = refusal(address, "Orders/Cancel", shape, bearer())
        assert lacks == (code.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")


def test_handlers_with_a_thread_pool_of_their_own_keep_it(service: FakeTokenService) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="own") as own:

        def where(request: Any, context: Any) -> bytes:
            return threading.current_thread().name.encode()

        where.experimental_thread_pool = own  # type: ignore[attr-defined]
        handler = preceded_by(lambda _: None, grpc.unary_unary_rpc_method_handler(where))
        behavior: Any = handler.unary_unary
        assert behavior.experimental_thread_pool is own
        assert behavior(b"", None) == threading.current_thread().name.encode()


def test_max_waiting_of_zero_is_refused(service: FakeTokenService) -> None:
    with pytest.raises(ConfigurationError, match="max_waiting is 0"):
        AuthInterceptor(SyncTokenValidator(config_for(service)), max_waiting=0)


async def test_stale_validator_answers_unavailable_and_does_not_blame_the_token(
    service: FakeTokenService,
) -> None:
    service.refuse_streams = service.refuse_unary = True
    async with (
        TokenValidator(config_for(service)) as validator,
        aio_server(validator, AuthRules(), KINDS[0]) as address,
    ):
        token = service.mint.token(time.time())
        refused = await asyncio.to_thread(
            refusal, address, "Orders/List", KINDS[0], ("authorization", f"Bearer {token}")
        )
        assert refused == (grpc.StatusCode.UNAVAILABLE, "REPLICA_STALE")


async def test_claims_do_not_leak_from_call_to_call(service: FakeTokenService) -> None:
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        async with (
            aio_server(validator, RULES, KINDS[0]) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            now = time.time()
            checked: Any = channel.unary_unary("/shop.Orders/List")
            public: Any = channel.unary_unary("/shop.Health/Check")

            async def one(number: int) -> None:
                token = service.mint.token(now, sub=f"user-{number}")
                assert (
                    await checked(b"", metadata=(("authorization", f"Bearer {token}"),))
                    == f"user-{number}".encode()
                )
                assert await public(b"") == b"nobody"

            await asyncio.gather(*(one(number) for number in range(40)))
    with pytest.raises(LookupError):
        current_claims()


async def test_caller_can_decode_the_refusal(service: FakeTokenService) -> None:
    async with TokenValidator(config_for(service)) as validator:
        assert await validator.wait_ready(60)
        async with (
            aio_server(validator, RULES, KINDS[0]) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            cancel: Any = channel.unary_unary("/shop.Orders/Cancel")
            with pytest.raises(grpc.RpcError) as caught:
                await cancel(b"", metadata=(("authorization", f"Bearer {service.mint.token(time.time())}"),))
            error = error_from_rpc(caught.value)
            assert isinstance(error, PermissionDeniedError)
            assert error.metadata["reason"] == "INSUFFICIENT_SCOPE"
            with pytest.raises(grpc.RpcError) as caught:
                await cancel(b"")
            assert isinstance(error_from_rpc(caught.value), CallerUnauthenticatedError)


@pytest.mark.parametrize(
    "rules",
    [
        {"scopes": {"shop.Orders/List": ["a"]}},
        {"scopes": {"/shop.Orders": ["a"]}},
        {"scopes": {"/shop.Orders/": ["a"]}},
        {"scopes": {"/shop.Orders/List": "read"}},
        {"default_scopes": "read"},
        {"public": ["Health"]},
        {"public": ["/shop.Orders/List"], "scopes": {"/shop.Orders/List": ["a"]}},
    ],
    ids=range(7),
)
def test_ambiguous_rules_are_refused(rules: Any) -> None:
    with pytest.raises(ConfigurationError):
        AuthRules(**rules)
