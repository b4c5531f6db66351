"""The growth of a node's memory under steady load."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, Final

import grpc

from tests.benchmarks.duel import Effort
from tests.benchmarks.memory import SERVE, open_streams, say
from tests.benchmarks.rpcs import (
    DISTINCT,
    Target,
    access_request,
    refresh_request,
    session_request,
    validate_request,
)
from tests.benchmarks.starting import resident
from tests.benchmarks.table import Row
from tests.support.processes import ServiceProcess
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

_AT_MOST: Final = 1.02
_MINUTES: Final = "BENCH_MINUTES"
_WARM_UP: Final = 1 / 6
"""Of the measured time. What expires must begin to do so before the second half: the ids of revoked tokens do after
`_TTL` and the largest leeway."""
_SAMPLES: Final = 240
_REPORTS: Final = 12
_WORKERS: Final = 8
_TURN: Final = 0.2
"""Seconds between two turns of a worker: the load must leave the node time, else its queues are measured."""
_REVOKED: Final = 5
"""One of so many access tokens is revoked."""
_TURNS_OF_SESSION: Final = 25
"""A session is revoked after so many rotations, and another one begins."""
_READERS: Final = 10
_READS: Final = (5.0, 15.0)
"""Seconds for which a stream is open."""
_TTL: Final = 120
"""Seconds of an access token."""
_VALIDATIONS: Final = 30_000
"""Validations of tokens that are not cached: they fill both generations of the caches, of 10,000 tokens each."""
_DEADLINE: Final = 60


def growth_under_load(effort: Effort) -> Iterator[Row]:
    """Measure the memory of a node on SQLite while it issues, validates, refreshes, revokes and streams."""
    minutes = float(os.environ.get(_MINUTES) or effort.minutes)
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_MAX_REVOCATIONS_PER_CALLER": "10000000",
    }
    with ServiceProcess(env=env, command=SERVE) as service, tempfile.TemporaryDirectory() as scratch:
        started = resident(service)
        say("growth", f"{started / 1e6:.1f} MB after the start; filling the caches")
        _fill(Target(service, Path(scratch)))
        say(
            "growth", f"{resident(service) / 1e6:.1f} MB with full caches; {minutes:g} minutes of load follow"
        )
        load = _Load(service.grpc_address)
        samples = asyncio.run(_sampled(service, load, minutes * 60))
    second = samples[len(samples) // 2 :]
    part = max(1, len(second) // 10)
    before, after = (median(size for _, size in each) for each in (second[:part], second[-part:]))
    slope = linear_regression([at for at, _ in second], [size for _, size in second]).slope
    yield Row(
        f"memory after {minutes:g} minutes of load",
        f"{after / 1e6:.1f} MB",
        f"after half of it {before / 1e6:.1f} MB",
        after / before,
        at_most=_AT_MOST,
        note=f"{slope * 3600 / 1e6:+.1f} MB/h in the second half; {samples[0][1] / 1e6:.1f} MB after the warm-up; "
        f"{started / 1e6:.1f} MB after the start; {load.calls / (minutes * 60 * (1 + _WARM_UP)):,.0f} calls/s, "
        f"{load.streams:,} streams",
    )


def _fill(target: Target) -> None:
    """Fill the caches of tokens and of responses, and the entries of the log that a node keeps in memory."""
    request = access_request().SerializeToString()
    issued = target.many("IssueToken", request, DISTINCT)
    tokens = [pb.IssueTokenResponse.FromString(each).access_token for each in issued]
    requests = [validate_request(token).SerializeToString() for token in tokens]
    with target.load("ValidateToken", requests) as load:
        load.calls(_VALIDATIONS)
    count = GrpcLimits().ring_capacity * 9 // 8 + 1
    revocations = [pb.RevokeTokenRequest(token_id=f"token-{number:016}") for number in range(count)]
    with target.load("RevokeToken", [each.SerializeToString() for each in revocations]) as load:
        load.calls(count)


def _short(request: pb.IssueTokenRequest) -> pb.IssueTokenRequest:
    request.access_token_ttl.seconds = _TTL
    return request


async def _sampled(service: ServiceProcess, load: _Load, seconds: float) -> Sequence[tuple[float, int]]:
    """Return the memory of a node under load after the warm-up, each with its time in seconds."""
    samples: list[tuple[float, int]] = []
    running = asyncio.create_task(load.run())
    try:
        await asyncio.wait({running}, timeout=seconds * _WARM_UP)
        began = time.monotonic()
        for number in range(_SAMPLES + 1):
            await asyncio.wait({running}, timeout=began + number * seconds / _SAMPLES - time.monotonic())
            if running.done():
                running.result()
            samples.append((time.monotonic() - began, resident(service)))
            if number % (_SAMPLES // _REPORTS) == 0:
                at, size = samples[-1]
                say("growth", f"{size / 1e6:.1f} MB after {at / 60:.1f} minutes, {load.calls:,} calls")
    finally:
        running.cancel()
        await asyncio.wait({running})
    return samples


class _Load:
    """Steady calls of all kinds. A call that fails ends it."""

    def __init__(self, address: str) -> None:
        self.calls = 0
        self.streams = 0
        self._address = address

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._work(number * _TURN / _WORKERS))
            for _ in range(_READERS):
                group.create_task(self._read())

    async def _work(self, delay: float) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            stub: Any = TokenServiceStub(channel)
            loop = asyncio.get_running_loop()
            due = loop.time() + delay
            session = await self._begin(stub)
            turn = 0
            while True:
                await asyncio.sleep(due - loop.time())
                due = max(due + _TURN, loop.time())
                turn += 1
                await self._access(stub, is_revoked=turn % _REVOKED == 0)
                if turn % _TURNS_OF_SESSION == 0:
                    await self._call(stub.RevokeToken, pb.RevokeTokenRequest(token=session))
                    session = await self._begin(stub)
                else:
                    answer = await self._call(stub.RefreshToken, refresh_request(session))
                    session = answer.refresh_token

    async def _begin(self, stub: Any) -> str:
        answer = await self._call(stub.IssueToken, _short(session_request()))
        return str(answer.refresh_token)

    async def _access(self, stub: Any, *, is_revoked: bool) -> None:
        """Issue a token and validate it twice; it may be revoked before the second time."""
        answer = await self._call(stub.IssueToken, _short(access_request()))
        request = validate_request(answer.access_token)
        assert (await self._call(stub.ValidateToken, request)).active
        if is_revoked:
            await self._call(stub.RevokeToken, pb.RevokeTokenRequest(token=answer.access_token))
        assert (await self._call(stub.ValidateToken, request)).active is not is_revoked

    async def _call(self, method: Any, request: object) -> Any:
        answer = await method(request, timeout=_DEADLINE)
        self.calls += 1
        return answer

    async def _read(self) -> None:
        """Follow the stream for some seconds, each time with a new connection."""
        while True:
            async with open_streams(self._address, 1, 1):
                self.streams += 1
                await asyncio.sleep(random.uniform(*_READS))
