"""Many validators in one process that only validate and remember until when they accepted each token.

The program takes its plan as an argument (JSON) and then commands, one per line. `token <number> <token>` adds a
token to the window of tokens that are validated continuously; `hold <number> <token>` adds it to the held tokens.
Newer tokens push older ones out of each. `forget` drops all tokens. `report` returns the observations. All times are
of CLOCK_BOOTTIME, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass

from token_service.client.config import Backoff, Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import InvalidTokenError, ReplicaStaleError

_WINDOW = 60
"""Newest tokens to validate continuously."""
_HELD = 40
"""Tokens that a trial waits for, kept apart so that newer tokens don't push them out."""
_PAUSE = 0.05


def clock() -> float:
    """Return seconds of the clock that all processes share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Plan:
    """The parameters of the process."""

    issuer: str
    targets: list[str]
    """gRPC targets, assigned to validators in turn."""
    count: int
    kind: str = "async"
    bound: float = 5.0
    remote: bool = False
    """Whether every second validator asks the service while it is not fresh. The others reject."""
    audience: str = "api"

    def text(self) -> str:
        """Return the plan as text for the command line."""
        return json.dumps(asdict(self))


class _Seen:
    def __init__(self) -> None:
        self.window: OrderedDict[int, str] = OrderedDict()
        self.held: OrderedDict[int, str] = OrderedDict()
        self.accepted: dict[int, float] = {}
        """By token: the time at which the last accepting validation *began*."""
        self.refused: dict[int, float] = {}
        """By token: the time at which the first validation that found it revoked ended."""
        self.reasons: Counter[str] = Counter()
        self.accepts = 0
        self.stale = 0

    def add(self, number: int, token: str) -> None:
        self.window[number] = token
        if len(self.window) > _WINDOW:
            self.window.popitem(last=False)

    def hold(self, number: int, token: str) -> None:
        self.held[number] = token
        if len(self.held) > _HELD:
            self.held.popitem(last=False)


async def _watch(validator: TokenValidator | SyncTokenValidator, seen: _Seen) -> None:
    while True:
        for number, token in (*seen.held.items(), *seen.window.items()):
            began = clock()
            try:
                if isinstance(validator, TokenValidator):
                    await validator.validate(token)
                else:
                    validator.validate(token)
            except InvalidTokenError as error:
                seen.reasons[error.reason.name] += 1
                seen.refused.setdefault(number, clock())
            except ReplicaStaleError:
                seen.stale += 1
            else:
                seen.accepts += 1
                if began > seen.accepted.get(number, 0.0):
                    seen.accepted[number] = began
        await asyncio.sleep(_PAUSE)


def _config(plan: Plan, number: int) -> ValidatorConfig:
    reject = (WhenStale.REJECT,)
    remote = (WhenStale.REMOTE, WhenStale.REJECT)
    issuer = ServiceIssuer(
        issuer=plan.issuer,
        target=plan.targets[number % len(plan.targets)],
        freshness=Freshness(
            bound=plan.bound,
            probe_timeout=plan.bound / 2,
            when_stale=remote if plan.remote and number % 2 else reject,
        ),
        reconnect=Backoff(initial=0.1, longest=0.5),
        remote_timeout=0.5,
        max_remote_calls=4,
    )
    return ValidatorConfig(issuers=[issuer], audience=plan.audience)


async def _main(plan: Plan) -> None:
    seen = _Seen()
    validators = [
        (TokenValidator if plan.kind == "async" else SyncTokenValidator)(_config(plan, number))
        for number in range(plan.count)
    ]
    for validator in validators:
        if isinstance(validator, TokenValidator):
            await validator.start()
        else:
            validator.start()
    tasks = [asyncio.create_task(_watch(validator, seen)) for validator in validators]
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode():
        command, *arguments = line.split()
        if command == "token":
            seen.add(int(arguments[0]), arguments[1])
        elif command == "hold":
            seen.hold(int(arguments[0]), arguments[1])
        elif command == "forget":
            seen.window.clear()
            seen.held.clear()
        else:
            report = {
                "fresh": sum(validator.is_fresh for validator in validators),
                "resets": [validator.counters.resets for validator in validators],
                "accepted": seen.accepted,
                "refused": seen.refused,
                "reasons": seen.reasons,
                "accepts": seen.accepts,
                "stale": seen.stale,
                "failed": [repr(task.exception()) for task in tasks if task.done()],
            }
            print(json.dumps(report), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(_main(Plan(**json.loads(sys.argv[1]))))
