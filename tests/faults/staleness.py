"""A trial of freshness: tokens are issued and revoked continuously while validators in their own processes follow.
No token may be accepted later than S after the acknowledgment of its revocation.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.faults.validators import Plan, clock
from tests.support import reaper
from tests.support.deadline import eventually
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

_CALL_TIMEOUT = 1.0
_LINE = 16 * 2**20


class Watchers:
    """A process of validators. `script` is the program of another version, and `env` the environment."""

    def __init__(
        self, plan: Plan, *, script: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.plan = plan
        self._program = ["-m", "tests.faults.validators"] if script is None else [str(script)]
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        command = [sys.executable, *self._program, self.plan.text()]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            env=self._env,
            start_new_session=True,
        )
        reaper.watch(self._process.pid)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        reaper.forget(self._process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Stop or resume the process."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def tell(self, line: str) -> None:
        """Send a command that has no answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def report(self) -> dict[str, Any]:
        """Return the observations so far."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with self._asking:
            self.tell("report")
            line = await self._process.stdout.readline()
        report: dict[str, Any] = json.loads(line)
        assert not report["failed"], f"a validator raised an unexpected error: {report['failed']}"
        return report


class Trial:
    """Issues and revokes at the nodes directly while validators follow over a network that may fail."""

    def __init__(
        self, addresses: Sequence[str], plans: Sequence[Plan], *, bound: float, rate: int = 6
    ) -> None:
        """`bound`: the claimed S in seconds. `rate`: number of concurrent tokens."""
        self.watchers = [Watchers(plan) for plan in plans]
        self.bound = bound
        self.acknowledged: dict[int, float] = {}
        """By token: the time at which the answer to its revocation arrived."""
        self._attempted: dict[int, float] = {}
        self._addresses = addresses
        self._rate = rate
        self._number = 0
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        try:
            channels = [
                await self._stack.enter_async_context(
                    grpc.aio.insecure_channel(
                        address,
                        options=[
                            ("grpc.use_local_subchannel_pool", 1),
                            ("grpc.max_reconnect_backoff_ms", 250),
                        ],
                    )
                )
                for address in self._addresses
            ]
            self._stubs: list[Any] = [TokenServiceStub(channel) for channel in channels]
            for watchers in self.watchers:
                await self._stack.enter_async_context(watchers)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.pause()
        await self._stack.aclose()

    async def run(self) -> None:
        """Issue and revoke without end in background tasks."""
        self._tasks = [asyncio.create_task(self._keep_revoking()) for _ in range(self._rate)]

    async def pause(self) -> None:
        """Stop issuing and revoking."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()
        self._tasks = []

    async def issue(self, count: int) -> list[tuple[int, pb.IssueTokenResponse]]:
        """Issue tokens that every validator holds."""
        return [await self._issue("hold") for _ in range(count)]

    async def revoke(self, number: int, issued: pb.IssueTokenResponse) -> None:
        """Revoke a token in a random way at any node that answers, and note the time of the acknowledgment."""
        target: dict[str, str] = random.choice(
            [
                {"token": issued.access_token},
                {"token": issued.refresh_token},
                {"token_id": issued.token_id},
                {"session_id": issued.session_id},
                {"subject": _subject(number)},
            ]
        )
        self._attempted.setdefault(number, clock())
        await self._anywhere("RevokeToken", pb.RevokeTokenRequest(**target))  # type: ignore[arg-type]
        self.acknowledged[number] = clock()

    async def all_fresh(self, timeout: float = 120) -> None:
        """Wait until every validator can prove its freshness."""

        async def fresh() -> bool:
            counts = [(await watchers.report())["fresh"] for watchers in self.watchers]
            assert counts == [watchers.plan.count for watchers in self.watchers]
            return True

        await eventually(fresh, timeout=timeout, interval=0.1)

    async def all_accept(self, numbers: Sequence[int], timeout: float = 120) -> None:
        """Wait until every process has accepted these tokens."""

        async def accepted() -> bool:
            for watchers in self.watchers:
                report = await watchers.report()
                missing = [number for number in numbers if str(number) not in report["accepted"]]
                state = {name: report[name] for name in ("fresh", "accepts", "stale", "reasons")}
                assert not missing, f"{watchers.plan.kind} validators have not accepted {missing}: {state}"
            return True

        await eventually(accepted, timeout=timeout, interval=0.1)

    async def stale(self) -> list[int]:
        """Return the number of validations without an answer for lack of freshness, by process."""
        return [int((await watchers.report())["stale"]) for watchers in self.watchers]

    async def found_stale(self, before: Sequence[int]) -> bool:
        """Return whether that number has grown in every process."""
        return all(now > then for now, then in zip(await self.stale(), before, strict=True))

    async def violations(self) -> list[str]:
        """Return the violations: accepted later than S after the acknowledgment, or refused before an attempt."""
        found: list[str] = []
        for watchers in self.watchers:
            report = await watchers.report()
            for text, began in report["accepted"].items():
                acknowledged = self.acknowledged.get(int(text))
                if acknowledged is not None and began > acknowledged + self.bound:
                    found.append(f"token {text} accepted {began - acknowledged:.3f} s after")
            for text, ended in report["refused"].items():
                if ended < self._attempted.get(int(text), float("inf")):
                    found.append(f"token {text} refused though no call revoked it: {report['reasons']}")
        return found

    async def _issue(self, command: str = "token") -> tuple[int, pb.IssueTokenResponse]:
        self._number += 1
        number = self._number
        request = pb.IssueTokenRequest(subject=_subject(number), client_id="web", audience=["api"])
        issued: pb.IssueTokenResponse = await self._anywhere("IssueToken", request)
        for watchers in self.watchers:
            watchers.tell(f"{command} {number} {issued.access_token}")
        return number, issued

    async def _keep_revoking(self) -> None:
        while True:
            number, issued = await self._issue()
            await asyncio.sleep(random.uniform(0.2, 0.8))
            await self.revoke(number, issued)

    async def _anywhere(self, method: str, request: Any) -> Any:
        """Return the answer of the first node that gives one."""
        stubs = self._stubs.copy()
        random.shuffle(stubs)
        while True:
            for stub in stubs:
                try:
                    return await getattr(stub, method)(request, timeout=_CALL_TIMEOUT)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in {
                        grpc.StatusCode.UNAVAILABLE,
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        grpc.StatusCode.CANCELLED,
                    }:
                        raise
            await asyncio.sleep(0.05)


def _subject(number: int) -> str:
    return f"user-{number}"
