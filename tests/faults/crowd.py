"""Many complete validators of the client library in one process, each with its own connection, stream and proofs.

The program takes the arguments `target issuer count bound` and then commands, one per line. It answers each command
with a line of JSON. `fresh` waits until all validators are fresh. `watch <token>` names a valid token that will be
revoked. `refused <time>` waits until all refuse it and returns the delay of each after that time of
`time.monotonic`. `reached <sequence>` waits until all have applied that sequence. `report` returns counters. A wait
that takes too long ends the program.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any

from token_service.client.config import Backoff, Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.client.validator import TokenValidator
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError

_PATIENCE = 240.0


class _Member:
    """A validator that checks the watched token whenever a message arrives."""

    def __init__(self, config: ValidatorConfig, crowd: _Crowd) -> None:
        self.validator = TokenValidator(config)
        self.refused_at: float | None = None
        self._crowd = crowd
        follower_state = self.validator._parts.follower_state
        assert follower_state is not None
        self.follower_state = follower_state
        self._apply = follower_state.apply
        follower_state.apply = self._apply_and_look  # type: ignore[method-assign]

    def _apply_and_look(self, message: Any) -> None:
        self._apply(message)
        if self._crowd.watched and self.refused_at is None:
            try:
                self.validator._parts.local.check(self._crowd.watched, None, ())
            except InvalidTokenError as error:
                if error.reason is InvalidReason.REVOKED:
                    self.refused_at = time.monotonic()


class _Crowd:
    def __init__(self, target: str, issuer: str, count: int, bound: float) -> None:
        self.watched = ""
        config = ValidatorConfig(
            issuers=[
                ServiceIssuer(
                    issuer=issuer,
                    target=target,
                    freshness=Freshness(bound=bound, probe_timeout=bound / 2, when_stale=(WhenStale.REJECT,)),
                    reconnect=Backoff(initial=0.2, longest=2.0),
                    stall_timeout=60,
                )
            ],
            audience="api",
        )
        self.members = [_Member(config, self) for _ in range(count)]

    async def start(self) -> None:
        for member in self.members:
            await member.validator.start()

    async def fresh(self) -> None:
        await _until(lambda: all(member.validator.is_fresh for member in self.members))

    async def watch(self, token: str) -> None:
        for member in self.members:
            await _accepted(member.validator, token)
            member.refused_at = None
        self.watched = token

    async def refused(self, began: float) -> list[float]:
        await _until(lambda: all(member.refused_at is not None for member in self.members))
        self.watched = ""
        return [member.refused_at - began for member in self.members if member.refused_at is not None]

    async def reached(self, sequence: int) -> None:
        await _until(
            lambda: all(
                m.follower_state.cursor and m.follower_state.cursor.sequence >= sequence for m in self.members
            )
        )

    def report(self) -> dict[str, Any]:
        total: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        for member in self.members:
            counters = member.validator.counters
            ends += counters.stream_ends
            total.update(
                {name: getattr(counters, name) for name in ("streams", "resets", "probes", "probe_failures")}
            )
        return {**total, "stream_ends": ends}


async def _accepted(validator: TokenValidator, token: str) -> None:
    """Wait until a validator accepts a token; a validator whose proof has just expired renews it first."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                await validator.validate(token)
            except ReplicaStaleError:
                await asyncio.sleep(0.02)
            else:
                return


async def _until(holds: Any) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not holds():  # noqa: ASYNC110  # thousands of events lead to it
            await asyncio.sleep(0.02)


async def _main(target: str, issuer: str, count: str, bound: str) -> None:
    crowd = _Crowd(target, issuer, int(count), float(bound))
    await crowd.start()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode():
        command, _, argument = line.strip().partition(" ")
        answer: Any = None
        if command == "fresh":
            await crowd.fresh()
        elif command == "watch":
            await crowd.watch(argument)
        elif command == "refused":
            answer = await crowd.refused(float(argument))
        elif command == "reached":
            await crowd.reached(int(argument))
        else:
            answer = crowd.report()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(*sys.argv[1:]))
