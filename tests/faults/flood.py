"""Floods beside honest callers: outcomes and latencies of those callers, and the memory that the node keeps.

Each flood runs in its own process against one node. Honest callers are answered OK, or RESOURCE_EXHAUSTED with a reason
and a retry delay. `/healthz` answers 200. Afterwards the node uses at most a fifth more memory than before.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import grpc
import psutil

from tests.support.deadline import DeadlineExceededError, eventually
from tests.support.processes import ServiceProcess, http_status
from tests.support.raw_http2 import RawConnection, message
from token_service.errors import OverloadedError
from token_service.v1 import token_pb2, token_service_pb2 as pb, token_service_pb2_grpc
from token_service.wire import error_from_rpc

_TOKENS = "/token_service.v1.TokenService/"
_ISSUE = pb.IssueTokenRequest(subject="flood", client_id="flood")
_MEBIBYTE = 2**20
_KEPT = 1.2
"""Factor by which the memory of the node may grow over all floods."""
_OK = 200


async def _calls_without_messages(grpc_address: str, _http_address: str) -> None:
    """Send only headers, up to the server's limit, over 20 connections."""
    async with AsyncExitStack() as stack:
        for _ in range(20):
            connection = await stack.enter_async_context(RawConnection(grpc_address))
            for _ in range(100):
                connection.begin(_TOKENS + "IssueToken")
            connection.flush()
        await asyncio.sleep(3600)


async def _messages_without_an_end(grpc_address: str, _http_address: str) -> None:
    """Send requests of 5 MB that lack their last byte."""
    async with RawConnection(grpc_address) as connection:
        unfinished = message(b"a" * 5_000_000)[:-1]
        streams = [connection.begin(_TOKENS + "IssueToken") for _ in range(60)]
        await asyncio.gather(*(connection.send(stream, unfinished) for stream in streams))


async def _rapid_reset(grpc_address: str, _http_address: str) -> None:
    """Cancel calls immediately after their start."""
    async with RawConnection(grpc_address) as connection:
        while not connection.closed.is_set():
            for _ in range(50):
                connection.reset(connection.begin(_TOKENS + "IssueToken"))
            connection.flush()
            await connection._writer.drain()
            await asyncio.sleep(0.005)


async def _bursts(grpc_address: str, _http_address: str) -> None:
    """Send 5,000 concurrent calls over one channel, repeatedly."""
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        call: Any = channel.unary_unary(_TOKENS + "IssueToken")
        request = _ISSUE.SerializeToString()
        while True:
            await asyncio.gather(*(call(request) for _ in range(5000)), return_exceptions=True)


async def _unread_answers(grpc_address: str, _http_address: str) -> None:
    """Request batches and never read their answers of about 1 MB."""
    issued = await _issue_large(grpc_address)
    batch = pb.BatchValidateTokensRequest(requests=[pb.ValidateTokenRequest(token=issued)] * 256)
    async with RawConnection(grpc_address, window=0) as connection:
        for _ in range(100):
            await connection.call(_TOKENS + "BatchValidateTokens", batch.SerializeToString())
        await asyncio.sleep(3600)


async def _issue_large(grpc_address: str) -> str:
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        request = pb.IssueTokenRequest(
            subject="flood", client_id="flood", token_types=[token_pb2.TOKEN_TYPE_ACCESS]
        )
        request.custom_claims.update({f"k{number}": "v" * 200 for number in range(18)})
        issue: Any = channel.unary_unary(_TOKENS + "IssueToken")
        return pb.IssueTokenResponse.FromString(await issue(request.SerializeToString())).access_token


async def _requests_of_very_many_fields(grpc_address: str, _http_address: str) -> None:
    """Send 5 MB of empty list items, which are refused each time."""
    number = pb.IssueTokenRequest.DESCRIPTOR.fields_by_name["scopes"].number
    async with grpc.aio.insecure_channel(grpc_address) as channel:
        call: Any = channel.unary_unary(_TOKENS + "IssueToken")
        while True:
            with suppress(grpc.aio.AioRpcError):
                await call(bytes((number << 3 | 2, 0)) * 2_500_000)


async def _waits(grpc_address: str, _http_address: str) -> None:
    """Send revocations that wait for a subscriber which never confirms."""
    async with AsyncExitStack() as stack:
        for _ in range(10):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(
                grpc.aio.insecure_channel(grpc_address, options=options)
            )
            stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
            await stub.StreamRevocations(pb.StreamRevocationsRequest(subscriber_id="deaf")).read()
            waiting = pb.RevokeTokenRequest(subject="flood")
            waiting.wait.applied_by_all = True
            waiting.wait.timeout.seconds = 60
            stack.push_async_callback(asyncio.gather, *(stub.RevokeToken(waiting) for _ in range(99)))
        await asyncio.sleep(3600)


async def _idle_connections(grpc_address: str, http_address: str) -> None:
    """Open idle connections, 500 to gRPC and 1,200 to HTTP."""
    sockets: list[socket.socket] = []
    for address, count in ((grpc_address, 500), (http_address, 1200)):
        host, _, port = address.rpartition(":")
        for _ in range(count):
            sockets.append(socket.create_connection((host, int(port)), timeout=30))
            await asyncio.sleep(0)
    await asyncio.sleep(3600)


_FLOODS: tuple[Callable[[str, str], Awaitable[None]], ...] = (
    _calls_without_messages,
    _messages_without_an_end,
    _rapid_reset,
    _bursts,
    _unread_answers,
    _requests_of_very_many_fields,
    _waits,
    _idle_connections,
)


def _run(number: int, grpc_address: str, http_address: str) -> None:
    with suppress(OSError):
        asyncio.run(_FLOODS[number](grpc_address, http_address))  # type: ignore[arg-type]  # all are coroutines


class _Honest:
    """Honest callers over their own connections, with outcomes and latencies."""

    def __init__(self, grpc_address: str) -> None:
        self._address = grpc_address
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []

    async def call_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._call_until(until) for _ in range(3)))
        self.latencies.sort()

    async def _call_until(self, until: float) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
            while time.monotonic() < until:
                token = ""
                for call in (
                    lambda: stub.IssueToken(_ISSUE, timeout=60),
                    lambda token=token: stub.ValidateToken(
                        pb.ValidateTokenRequest(token=token or "x"), timeout=60
                    ),
                    lambda: stub.RevokeToken(pb.RevokeTokenRequest(token_id="honest"), timeout=60),
                ):
                    await self._note(call())
                await asyncio.sleep(0.02)

    async def _note(self, call: Any) -> None:
        began = time.monotonic()
        try:
            await call
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure)
            typed = isinstance(error, OverloadedError) and error.retry_after is not None
            self.outcomes[
                "RESOURCE_EXHAUSTED" if typed else f"{failure.code().name}: {failure.details()}"
            ] += 1
        else:
            self.outcomes["OK"] += 1
        self.latencies.append(time.monotonic() - began)

    def percentile(self, percent: int) -> float:
        return self.latencies[min(len(self.latencies) - 1, len(self.latencies) * percent // 100)] * 1000


async def _flooded(service: ServiceProcess, number: int, seconds: float) -> list[str]:
    """Run one flood and return the violations."""
    memory = psutil.Process(service.pid).memory_info
    before = memory().rss
    flood = multiprocessing.get_context("spawn").Process(
        target=_run, args=(number, service.grpc_address, service.http_address), daemon=True
    )
    flood.start()
    honest = _Honest(service.grpc_address)
    try:
        await honest.call_for(seconds)
        peak = memory().rss
        health = await asyncio.to_thread(http_status, service.http_address, "/healthz")
    finally:
        flood.kill()
        flood.join()
    name = _FLOODS[number].__name__.strip("_").replace("_", " ")
    print(
        f"{name:30} honest: {dict(honest.outcomes)}, p50 {honest.percentile(50):.0f} ms, "
        f"p99 {honest.percentile(99):.0f} ms; memory {before / _MEBIBYTE:.0f} -> {peak / _MEBIBYTE:.0f} MiB; "
        f"healthz {health}",
        flush=True,
    )
    found = [f"{name}: an honest call ended with {each}" for each in honest.outcomes if each not in _ALLOWED]
    return found if health == _OK else [*found, f"{name}: /healthz answered {health}"]


_ALLOWED = frozenset({"OK", "RESOURCE_EXHAUSTED"})


async def _main(seconds: float) -> int:
    async with ServiceProcess(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as service:
        # The growth of a node in ordinary use does not count.
        await _Honest(service.grpc_address).call_for(seconds)
        memory = psutil.Process(service.pid).memory_info
        before = memory().rss
        found: list[str] = []
        for number in range(len(_FLOODS)):
            found += await _flooded(service, number, seconds)
        try:
            await eventually(lambda: memory().rss <= before * _KEPT, timeout=60, interval=1)
        except DeadlineExceededError:
            found.append("the node uses over a fifth more memory than before")
        print(f"memory {before / _MEBIBYTE:.0f} MiB before all floods, {memory().rss / _MEBIBYTE:.0f} after")
    for each in found:
        print(f"violated: {each}")
    return 1 if found else 0


def main(seconds: float) -> int:
    """Run each flood for `seconds`; return 1 for a violation."""
    return asyncio.run(_main(seconds))
