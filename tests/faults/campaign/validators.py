"""A process of validators that only validate and record each verdict.

`python -m tests.faults.campaign.validators PLAN`. Validations of up to 20 ms make one record. Its time is taken
before the first validation began: a verdict may be as early as that, and the process may be stopped at any later
moment.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

from tests.faults.campaign.history import Journal, clock, to_ranges
from tests.faults.campaign.plan import AUDIENCE, ISSUER, Plan
from tests.support.libfaketime import repair_sleep
from token_service.client import (
    Backoff,
    Freshness,
    ServiceIssuer,
    SyncTokenValidator,
    TokenValidator,
    ValidatorConfig,
    WhenStale,
)
from token_service.errors import InvalidTokenError, ReplicaStaleError

_CHUNK = 0.02
_PAUSE = 0.15
_LONGEST_PAUSE = 1.0
_PAUSE_OF_QUESTIONS = 0.6
_ASKED_ABOUT = 60
"""Newest tokens to ask about concurrently. More would keep the process from following the stream again."""
_WATCHERS = 3
"""Concurrent tasks or threads that use one validator."""
_BEAT = 0.5


class Window:
    """The newest tokens, read from the file of the load."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._offset = 0
        self._lock = threading.Lock()
        self.tokens: tuple[tuple[int, str], ...] = ()
        self._known: OrderedDict[int, str] = OrderedDict()

    def update(self) -> None:
        """Read new tokens."""
        with self._lock:
            try:
                with self._plan.tokens.open("rb") as file:
                    file.seek(self._offset)
                    data = file.read()
            except FileNotFoundError:
                return
            end = data.rfind(b"\n") + 1
            if not end:
                return
            self._offset += end
            for line in data[:end].decode().splitlines():
                number, _, token = line.partition(" ")
                if token:
                    self._known[int(number)] = token
            while len(self._known) > self._plan.window:
                self._known.popitem(last=False)
            self.tokens = tuple(self._known.items())


class _Chunk:
    """The content of one record."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self.began = clock()
        self.wall = time.time()
        self.accepted: list[int] = []
        self.refused: defaultdict[str, list[int]] = defaultdict(list)
        self.stale = 0
        self._before = watcher.state()

    @property
    def due(self) -> bool:
        return clock() - self.began >= _CHUNK

    def write(self) -> None:
        if not (self.accepted or self.refused or self.stale):
            return
        self._watcher.journal.write(
            "pass",
            v=self._watcher.name,
            b=self.began,
            e=clock(),
            wall=self.wall,
            ok=to_ranges(self.accepted),
            no={reason: to_ranges(numbers) for reason, numbers in self.refused.items()},
            st=self.stale,
            s0=self._before,
            s1=self._watcher.state(),
        )


class Watcher:
    """One validator and its records."""

    def __init__(self, plan: Plan, number: int, journal: Journal, window: Window) -> None:
        self.name = f"{plan.name}.{number}"
        self.journal = journal
        self.window = window
        self._asks = bool(number % 2)
        when_stale = (WhenStale.REMOTE, WhenStale.REJECT) if self._asks else (WhenStale.REJECT,)
        issuer = ServiceIssuer(
            issuer=ISSUER,
            target=plan.targets[number % len(plan.targets)],
            credentials=plan.credentials(),
            freshness=Freshness(bound=plan.bound, probe_timeout=plan.bound / 2, when_stale=when_stale),
            reconnect=Backoff(initial=0.1, longest=0.5),
            # An answer that takes longer than S reveals a proof that belongs to another question.
            remote_timeout=1.5 * plan.bound,
            max_remote_calls=256,
            stall_timeout=3 * plan.bound,
        )
        config = ValidatorConfig(issuers=[issuer], audience=AUDIENCE)
        self.validator: Any = (TokenValidator if plan.kind == "async" else SyncTokenValidator)(config)

    def state(self) -> list[Any]:
        """Return cursor, start and end of the last proof, version of the revocation set, and the times between which
        these were read.
        """
        began = clock()
        follower_state = self.validator._parts.follower_state
        feed = follower_state.feed
        proven, until = (None if abs(t) == float("inf") else t for t in (feed.proven_at, feed.fresh_until))
        cursor, version = str(follower_state.cursor or ""), feed.revocations.version
        return [cursor, proven, until, version, began, clock()]

    @property
    def proven(self) -> float:
        """Time at which the last proof of freshness began; 0.0: never."""
        return max(0.0, self.validator._parts.follower_state.feed.proven_at)

    async def follow(self, after: float) -> None:
        """Validate in an event loop without end, starting after `after` seconds."""
        await asyncio.sleep(after)
        asking: set[asyncio.Task[None]] = set()
        while True:
            self.window.update()
            if self._asks and not self.validator.is_fresh:
                # Each token has its own task, and starts again before its last task has ended. So validations share
                # answers to questions of any earlier time.
                asking = {task for task in asking if not task.done() or task.result()}
                pairs = self.window.tokens[-_ASKED_ABOUT:]
                asking |= {asyncio.create_task(self._pass([pair])) for pair in pairs}
                began = clock()
                await asyncio.sleep(_PAUSE_OF_QUESTIONS)
                # On a busy machine the event loop must catch up first.
                await asyncio.sleep(5 * (clock() - began - _PAUSE_OF_QUESTIONS))
            else:
                began = clock()
                await self._pass(self.window.tokens)
                await asyncio.sleep(_pause_after(began))

    async def _pass(self, tokens: Sequence[tuple[int, str]]) -> None:
        chunk = _Chunk(self)
        for number, token in tokens:
            try:
                await self.validator.validate(token)
            except InvalidTokenError as error:
                chunk.refused[error.reason.name].append(number)
            except ReplicaStaleError:
                chunk.stale += 1
            else:
                chunk.accepted.append(number)
            if chunk.due:
                chunk.write()
                await asyncio.sleep(0)
                chunk = _Chunk(self)
        chunk.write()

    def run(self) -> None:
        """Validate in a thread without end."""
        while True:
            self.window.update()
            began = clock()
            chunk = _Chunk(self)
            for number, token in self.window.tokens:
                try:
                    self.validator.validate(token)
                except InvalidTokenError as error:
                    chunk.refused[error.reason.name].append(number)
                except ReplicaStaleError:
                    chunk.stale += 1
                else:
                    chunk.accepted.append(number)
                if chunk.due:
                    chunk.write()
                    chunk = _Chunk(self)
            chunk.write()
            time.sleep(_pause_after(began))


def _pause_after(began: float) -> float:
    """Return the seconds to wait after a pass: longer on a busy machine, so that the follower keeps up."""
    return min(max(_PAUSE, 10 * (clock() - began)), _LONGEST_PAUSE)


def _beat(journal: Journal, plan: Plan, watchers: list[Watcher]) -> None:
    journal.write("beat", p=plan.name, at=clock(), proven={each.name: each.proven for each in watchers})


async def _follow(plan: Plan, journal: Journal, watchers: list[Watcher]) -> None:
    for each in watchers:
        await each.validator.start()
    tasks = [
        asyncio.create_task(each.follow(number * _PAUSE_OF_QUESTIONS / _WATCHERS))
        for each in watchers
        for number in range(_WATCHERS)
    ]
    while True:
        for task in tasks:
            if task.done():
                task.result()
        _beat(journal, plan, watchers)
        await asyncio.sleep(_BEAT)


def _run(plan: Plan, journal: Journal, watchers: list[Watcher]) -> None:
    for each in watchers:
        each.validator.start()
    threads = [threading.Thread(target=each.run, daemon=True) for each in watchers for _ in range(_WATCHERS)]
    for thread in threads:
        thread.start()
    while all(thread.is_alive() for thread in threads):
        _beat(journal, plan, watchers)
        time.sleep(_BEAT)
    sys.exit("a validating thread has ended")


def main() -> None:
    repair_sleep()
    plan = Plan.parse(sys.argv[1])
    if plan.defect:
        from tests.faults.campaign.defects import DEFECTS

        DEFECTS[plan.defect].in_validator()
    journal = Journal(plan.root / f"{plan.name}.jsonl")
    window = Window(plan)
    watchers = [Watcher(plan, number, journal, window) for number in range(plan.count)]
    journal.write("started", p=plan.name, at=clock(), names=[each.name for each in watchers])
    if plan.kind == "async":
        asyncio.run(_follow(plan, journal, watchers))
    else:
        _run(plan, journal, watchers)


if __name__ == "__main__":
    main()
