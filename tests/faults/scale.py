"""One node and many validators: the time of a revocation to reach all of them, a burst, consumers that stop reading,
concurrent reconnects, and the memory of the node.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import psutil

from tests.integration.nodes import Node
from tests.support import reaper
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

_ISSUER = "https://tokens.test"
_UNDER_WAY = 64
_MEBIBYTE = 2**20


class Crowd:
    """A process of validators."""

    def __init__(self, target: str, count: int, bound: float) -> None:
        self.count = count
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crowd", target, _ISSUER, str(count), str(bound)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        reaper.watch(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        reaper.forget(self._process.pid)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def ask(self, command: str) -> Any:
        """Return the answer to a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise AssertionError(f"{command.partition(' ')[0]}: timed out, or the validators failed")
        return json.loads(answer)

    def signal(self, number: signal.Signals) -> None:
        """Stop or resume the process."""
        os.killpg(self._process.pid, number)


class Memory:
    """The resident memory of a process, in bytes, and its maximum since the last `mark`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self.highest = 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Return the current memory."""
        return int(self._process.memory_info().rss)

    def mark(self) -> int:
        """Reset the maximum and return the current memory."""
        self.highest = self.now()
        return self.highest

    def close(self) -> None:
        """Stop measuring."""
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self.highest = max(self.highest, self.now())
            except psutil.NoSuchProcess:
                return


@dataclass
class Findings:
    """The results of a trial, in seconds and bytes."""

    subscribers: int
    times: list[float] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    """Maximum in each phase."""
    seconds: dict[str, float] = field(default_factory=dict)
    stream_ends: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        ordered = sorted(self.times)
        p50, p99 = (ordered[len(ordered) * percent // 100] * 1e3 for percent in (50, 99))
        everywhere = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, last {ordered[-1] * 1e3:.0f} ms"
        lines = [
            f"revoked -> refused by {self.subscribers:,} validators: {everywhere}",
            *(f"{what}: {seconds:.1f} s" for what, seconds in self.seconds.items()),
            *(f"node's memory, {when}: {size / _MEBIBYTE:.0f} MiB" for when, size in self.memory.items()),
            f"streams of reading validators that ended in the burst and resumed: {self.stream_ends or 'none'}",
        ]
        return "\n".join(lines)


class Scale:
    """One trial."""

    def __init__(self, subscribers: int, burst: int, stalled: int, bound: float) -> None:
        self._subscribers, self._burst, self._stalled, self._bound = subscribers, burst, stalled, bound
        self.found = Findings(subscribers)

    def run(self, revocations: int) -> Findings:
        """Run the trial. Raise `AssertionError` if a validator does not catch up."""
        found = self.found
        env = {
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_ISSUER": _ISSUER,
            "TOKEN_SERVICE_MAX_REVOCATIONS_PER_CALLER": "10000000",
        }
        with ExitStack() as stack:
            node = stack.enter_context(Node(env=env))
            self._address = node.grpc_address
            memory = Memory(node.pid)
            stack.callback(lambda: memory.close())  # noqa: PLW0108  # the variable is rebound below
            found.memory["alone"] = memory.mark()
            with Crowd(self._address, self._subscribers, self._bound) as crowd:
                with self._timed("all connect and become fresh"):
                    crowd.ask("fresh")
                found.memory[f"{self._subscribers:,} streams"] = before = memory.mark()
                for _ in range(revocations):
                    found.times += self._revoke_one(crowd)
                with Crowd(self._address, self._stalled, self._bound) as stalled:
                    stalled.ask("fresh")
                    stalled.signal(signal.SIGSTOP)
                    with self._timed(f"{self._burst:,} revoked"):
                        head = asyncio.run(self._revoke_many())
                    with self._timed("then all apply them"):
                        crowd.ask(f"reached {head}")
                    found.memory[f"highest in a burst of {self._burst:,}, {self._stalled} not reading"] = (
                        memory.highest
                    )
                    self.burst_growth = memory.highest - before
                    stalled.signal(signal.SIGCONT)
                    with self._timed("stalled validators catch up"):
                        stalled.ask(f"reached {head}")
                        stalled.ask("fresh")
                found.stream_ends = crowd.ask("report")["stream_ends"]
            memory.mark()
            with Crowd(self._address, self._subscribers, self._bound) as crowd:
                with self._timed("all start concurrently without a cursor"):
                    crowd.ask(f"reached {head}")
                    crowd.ask("fresh")
                found.memory["highest during the concurrent start"] = memory.highest
                memory.close()
                node.kill()
                node.start()
                memory = Memory(node.pid)
                with self._timed("node killed and restarted: all resume concurrently"):
                    head = self._revoke("resumed")
                    crowd.ask(f"reached {head}")
                    crowd.ask("fresh")
                found.memory["highest during the concurrent resumption"] = memory.highest
                found.times += self._revoke_one(crowd)
                report = crowd.ask("report")
                assert report["resets"] == self._subscribers, "a validator did not resume from its cursor"
        return found

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        print(f"faults: scale: {what} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        yield
        self.found.seconds[what] = time.monotonic() - began

    def _revoke_one(self, crowd: Crowd) -> list[float]:
        with grpc.insecure_channel(self._address) as channel:
            stub = TokenServiceStub(channel)
            request = pb.IssueTokenRequest(subject="watched", client_id="web", audience=["api"])
            issued = stub.IssueToken(request, timeout=60)
            crowd.ask(f"watch {issued.access_token}")
            time.sleep(random.uniform(0, 0.2))  # out of step with periodic work
            began = time.monotonic()
            stub.RevokeToken(pb.RevokeTokenRequest(token=issued.access_token), timeout=60)
        times: list[float] = crowd.ask(f"refused {began}")
        return times

    def _revoke(self, subject: str) -> int:
        with grpc.insecure_channel(self._address) as channel:
            answer = TokenServiceStub(channel).RevokeToken(
                pb.RevokeTokenRequest(subject=subject), timeout=60, wait_for_ready=True
            )
        return int(answer.cursor.rpartition(":")[2])

    async def _revoke_many(self) -> int:
        head = 0
        numbers = iter(range(self._burst))
        async with grpc.aio.insecure_channel(self._address) as channel:
            stub: Any = TokenServiceStub(channel)

            async def work() -> None:
                nonlocal head
                for number in numbers:
                    answer = await stub.RevokeToken(
                        pb.RevokeTokenRequest(token_id=f"burst-{number}"), timeout=120
                    )
                    head = max(head, int(answer.cursor.rpartition(":")[2]))

            await asyncio.gather(*(work() for _ in range(_UNDER_WAY)))
        return head


def main(subscribers: int, burst: int) -> int:
    """Run the trial and print its results; return 1 if the burst added more memory than the limit."""
    trial = Scale(subscribers, burst, stalled=max(1, subscribers // 50), bound=15.0)
    print(trial.run(revocations=20))
    limit = 128 * _MEBIBYTE
    print(
        f"the burst added {trial.burst_growth / _MEBIBYTE:.0f} MiB to the node (limit {limit // _MEBIBYTE} MiB)"
    )
    return int(trial.burst_growth > limit)
