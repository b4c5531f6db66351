"""Transaction tokens in gRPC servers and clients: accepted by interceptors, and passed on to further calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import httpx
import pytest

from token_service.client import (
    AioAuthInterceptor,
    AuthInterceptor,
    AuthRules,
    ConfigurationError,
    TransactionHook,
    TransactionInterceptor,
    aio_transaction_interceptors,
    current_claims,
    current_transaction,
)
from token_service.client._internal.transaction import TRANSACTION, Transaction
from token_service.testing import FakeIssuer

DOMAIN = "shop.test"
RULES = AuthRules(trust_domain=DOMAIN, scopes={"/shop.Stock/Take": ["orders"]})
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
METHOD = "/shop.Stock/Take"


@pytest.fixture(scope="module")
def issuer() -> Iterator[FakeIssuer]:
    with FakeIssuer() as issuer:
        yield issuer


def described() -> bytes:
    return f"{current_claims().subject} {current_transaction().transaction_id}".encode()


@contextmanager
def sync_server(
    issuer: FakeIssuer, kind: str, rules: AuthRules = RULES, answer: Any = described
) -> Iterator[str]:
    def unary(request: Any, context: Any) -> bytes:
        return bytes(answer())

    def stream(request: Any, context: Any) -> Iterator[bytes]:
        yield bytes(answer())

    behavior = unary if kind.endswith("unary") else stream
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behavior)
    with issuer.validator() as validator, ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, interceptors=[AuthInterceptor(validator, rules)])
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("shop.Stock", {"Take": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@asynccontextmanager
async def aio_server(issuer: FakeIssuer, kind: str, answer: Any = None) -> AsyncIterator[str]:
    async def unary(request: Any, context: Any) -> bytes:
        return described() if answer is None else await answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[bytes]:
        yield described() if answer is None else await answer()

    behavior = unary if kind.endswith("unary") else stream
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behavior)
    async with issuer.async_validator() as validator:
        server = grpc.aio.server(interceptors=[AioAuthInterceptor(validator, RULES)])
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("shop.Stock", {"Take": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


def call(channel: grpc.Channel, kind: str, metadata: Any = ()) -> bytes:
    made = getattr(channel, kind)(METHOD)
    request: Any = iter([b"x"]) if kind.startswith("stream") else b"x"
    answer = made(request, metadata=metadata, timeout=30)
    return b"".join(answer) if kind.endswith("stream") else answer


async def call_aio(channel: grpc.aio.Channel, kind: str) -> bytes:
    made = getattr(channel, kind)(METHOD)
    request: Any = iter([b"x"]) if kind.startswith("stream") else b"x"
    answer = made(request, timeout=30)
    if kind.endswith("stream"):
        return b"".join([part async for part in answer])
    return await answer


@contextmanager
def transaction(token: str) -> Iterator[None]:
    reset = TRANSACTION.set(Transaction(token, "of the test"))
    try:
        yield
    finally:
        TRANSACTION.reset(reset)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_pass_the_transaction_on(issuer: FakeIssuer, kind: str) -> None:
    """Three services: each call carries the token that the first one got."""
    token = issuer.transaction_token(subject="alice", claims={"txn": "txn-1"})
    with sync_server(issuer, kind) as last:

        def ask() -> bytes:
            with grpc.insecure_channel(last) as channel:
                return call(grpc.intercept_channel(channel, TransactionInterceptor()), kind)

        with sync_server(issuer, kind, answer=ask) as first, grpc.insecure_channel(first) as channel:
            assert call(channel, kind, [("txn-token", token)]) == b"alice txn-1"


@pytest.mark.parametrize("kind", KINDS)
async def test_event_loops_pass_the_transaction_on(issuer: FakeIssuer, kind: str) -> None:
    token = issuer.transaction_token(subject="bob", claims={"txn": "txn-2"})
    async with aio_server(issuer, kind) as last:

        async def ask() -> bytes:
            async with grpc.aio.insecure_channel(
                last, interceptors=aio_transaction_interceptors()
            ) as channel:
                return await call_aio(channel, kind)

        async with aio_server(issuer, kind, ask) as first:
            interceptors = aio_transaction_interceptors()
            async with grpc.aio.insecure_channel(first, interceptors=interceptors) as channel:
                with transaction(token):
                    assert await call_aio(channel, kind) == b"bob txn-2"


def test_concurrent_requests_keep_their_own_transactions(issuer: FakeIssuer) -> None:
    with sync_server(issuer, "unary_unary") as address, grpc.insecure_channel(address) as channel:
        tokens = [issuer.transaction_token(subject=f"u{i}", claims={"txn": f"t{i}"}) for i in range(40)]

        def one(number: int) -> bytes:
            return call(channel, "unary_unary", [("txn-token", tokens[number])])

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(one, range(40))) == [f"u{i} t{i}".encode() for i in range(40)]


def refused(address: str, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as error:
        call(channel, "unary_unary", metadata)
    return error.value.code()


def test_call_without_its_transaction_token_is_refused(issuer: FakeIssuer) -> None:
    good, access = issuer.transaction_token(), issuer.access_token(audience=[DOMAIN], scopes=["orders"])
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    with sync_server(issuer, "unary_unary") as address:
        assert refused(address, []) is unauthenticated
        assert refused(address, [("authorization", f"Bearer {good}")]) is unauthenticated
        assert refused(address, [("txn-token", good), ("txn-token", good)]) is unauthenticated
        assert refused(address, [("txn-token", access)]) is unauthenticated
        other = issuer.transaction_token(trust_domain="bank.test")
        assert refused(address, [("txn-token", other)]) is unauthenticated
        narrow = issuer.transaction_token(scopes=["other"])
        assert refused(address, [("txn-token", narrow)]) is grpc.StatusCode.PERMISSION_DENIED
        issuer.revoke(token=good)
        assert refused(address, [("txn-token", good)]) is unauthenticated


def test_transaction_token_is_no_access_token(issuer: FakeIssuer) -> None:
    token = issuer.transaction_token()
    with sync_server(issuer, "unary_unary", AuthRules()) as address:
        for metadata in ([("authorization", f"Bearer {token}")], [("txn-token", token)]):
            assert refused(address, metadata) is grpc.StatusCode.UNAUTHENTICATED


def test_call_outside_of_a_transaction_carries_no_token(issuer: FakeIssuer) -> None:
    with pytest.raises(LookupError, match="no transaction"):
        current_transaction()
    with sync_server(issuer, "unary_unary") as address, grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, TransactionInterceptor())
        with pytest.raises(grpc.RpcError, match="one transaction token"):
            call(intercepted, "unary_unary")


def test_token_of_the_transaction_replaces_one_of_the_caller(issuer: FakeIssuer) -> None:
    token = issuer.transaction_token(subject="carol", claims={"txn": "t"})
    with sync_server(issuer, "unary_unary") as address, grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, TransactionInterceptor())
        with transaction(token):
            assert call(intercepted, "unary_unary", [("txn-token", "another")]) == b"carol t"


def test_transaction_does_not_show_its_token() -> None:
    assert "secret-token" not in repr(Transaction("secret-token", "txn-1"))


def _receiver(seen: list[tuple[str, str | None]]) -> httpx.MockTransport:
    def receive(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("txn-token")))
        if request.url.path == "/away":
            return httpx.Response(307, headers={"location": "http://elsewhere.test/"})
        return httpx.Response(200)

    return httpx.MockTransport(receive)


def test_httpx_sends_the_token_to_the_given_hosts_only() -> None:
    seen: list[tuple[str, str | None]] = []
    hook = TransactionHook(hosts=["Stock.test"])
    with (
        httpx.Client(
            transport=_receiver(seen), event_hooks={"request": [hook.on_request]}, follow_redirects=True
        ) as client,
        transaction("the-token"),
    ):
        client.get("http://stock.test/")
        client.get("http://stock.test/away")
        client.get("http://other.test/")
    client_outside = httpx.Client(transport=_receiver(seen), event_hooks={"request": [hook.on_request]})
    client_outside.get("http://stock.test/")
    assert seen == [
        ("stock.test", "the-token"),
        ("stock.test", "the-token"),
        ("elsewhere.test", None),
        ("other.test", None),
        ("stock.test", None),
    ]


def test_async_httpx_sends_the_token() -> None:
    seen: list[tuple[str, str | None]] = []
    hook = TransactionHook(hosts=["stock.test"])

    async def main() -> None:
        hooks = {"request": [hook.on_async_request]}
        async with httpx.AsyncClient(transport=_receiver(seen), event_hooks=hooks) as client:
            await client.get("http://stock.test/")

    with transaction("the-token"):
        asyncio.run(main())
    assert seen == [("stock.test", "the-token")]


def test_contradicting_rules_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="trust_domain"):
        AuthRules(trust_domain=DOMAIN, audience="api")
    with pytest.raises(ConfigurationError, match="collection"):
        TransactionHook(hosts="stock.test")
