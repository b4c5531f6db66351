"""Which validators are connected, here and on other nodes, and what each has confirmed.

Nodes know of each other by reports in the database, which are written when something has changed, at most
every so often. What somebody waits for hurries it: the head of the log says so to all nodes, each asks its
own validators, and reports once they have confirmed, in one write for all who confirm at about the same time.
Whoever waits at a node shares one look at the reports with all others who do.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.limits import MAX_WAIT
from token_service.core.subscribers.node_store import NodeReport, NodeStore
from token_service.errors import TokenServiceError

_MAX_PAIRS: Final = 64
_MAX_FOREIGN: Final = 4096
MAX_FOREIGN_PER_CALLER: Final = 1024
"""Names of validators connected to other nodes whose confirmations are kept for one caller."""
SILENT_AFTER: Final = 10.0
"""Seconds after which a validator that was asked to confirm, and has not, is waited for no more."""
SILENT: Final = -1
"""The place in the log that a report gives for silent validators. Nodes that do not know it wait for them."""
_ASKED_STEP: Final = 0.5
"""Seconds whose requests count as asked at the first of them."""
_FOREIGN_AGE: Final = 10.0
_REPORT_AGE: Final = 10.0
"""Seconds after which a node that has not reported counts as gone, and its validators as disconnected."""
_IDLE_INTERVAL: Final = 2.0
_BUSY_INTERVAL: Final = 0.25
_HURRY_INTERVAL: Final = 0.05
"""Seconds between two reports, or two looks at them, however much hurries."""
_EAGER_INTERVAL: Final = 0.1
"""Seconds between two looks at the reports while somebody has just begun to wait, ..."""
_EAGER_FOR: Final = 2.0
"""... that is, for so many seconds; after them, looks are as far apart as reports usually are."""
_EARLY: Final = 0.001
"""Seconds a look may come before its time: a timer may, by a hair."""
_MAX_GONE: Final = 64
"""Of those who wait, how many that have gone are kept beyond as many as are still there."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiter:
    """Somebody who waits until all have confirmed a sequence: gets how many validators there are."""

    sequence: int
    done: asyncio.Future[int]
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there was a look at the reports that began after he came, or was to be."""
    failure: Exception | None = None
    """Why there was none, or not another one."""


class Validators:
    """The validators of this node, and the reports of the others. For one event loop."""

    def __init__(self, node_id: str, nodes: NodeStore, clock: Clock) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._clock = clock
        self._streams: Counter[str] = Counter()
        self._applied: dict[str, int] = {}
        self._levels: Counter[int] = Counter()
        """How many of them are at which sequence."""
        self._connected_at: dict[str, float] = {}
        self._silent: set[str] = set()
        """Those of this node that owe a confirmation for too long: connected, but at no level."""
        self._asked: deque[tuple[float, int]] = deque()
        """When which sequence was requested, the youngest last."""
        self._overdue = 0
        """The highest sequence that was requested so long ago that whoever has not confirmed it is silent."""
        self._key_revisions: dict[str, int] = {}
        self._foreign: dict[str, tuple[int, float, str]] = {}
        self._foreign_of: Counter[str] = Counter()
        self._changed = True
        self._hurry = asyncio.Event()
        self.requested = 0
        """The highest sequence that somebody waits for, at any node."""
        self._requested_at = -inf
        self._announced = 0
        """Up to where other nodes know, or can know, of it."""
        self._others: Sequence[NodeReport] = ()
        self._looked = -inf
        self._came: list[_Waiter] = []
        """Those who wait for a look at the reports that begins after they came."""
        self._waiters: list[tuple[int, int, _Waiter]] = []
        """Those who have seen one, the lowest sequence first."""
        self._order = count()
        self._waiting = 0
        self._came_last = -inf
        self._wanted = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[], None]] = []

    def on_request(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `requested` has grown."""
        self._listeners.append(listener)

    def connect(self, subscriber_id: str) -> None:
        """A stream of this validator was opened here."""
        self._streams[subscriber_id] += 1
        if subscriber_id not in self._applied:
            self._put(subscriber_id, 0)
            self._connected_at[subscriber_id] = self._clock.monotonic()
        self._key_revisions.setdefault(subscriber_id, 0)
        self._moved()

    def disconnect(self, subscriber_id: str) -> None:
        """A stream of this validator ended."""
        self._streams[subscriber_id] -= 1
        if self._streams[subscriber_id] <= 0:
            del self._streams[subscriber_id]
            self._put(subscriber_id, None)
            self._silent.discard(subscriber_id)
            del self._connected_at[subscriber_id]
            self._key_revisions.pop(subscriber_id, None)
        self._moved()

    def confirm(self, subscriber_id: str, sequence: int, key_revision: int = 0, *, caller: str = "") -> None:
        """This validator has applied everything up to `sequence`, and uses the key set of `key_revision`.

        `caller` is the identity that speaks for it. Names of validators that are not connected here are kept up to a
        limit for each, and ignored beyond it: invented ones must not push out those of others.
        """
        known = self._applied.get(subscriber_id)
        if key_revision > self._key_revisions.get(subscriber_id, key_revision):
            self._key_revisions[subscriber_id] = key_revision
            self._changed = True
        if known is None:
            # Its stream is on another node, which learns of it from this node's report.
            if subscriber_id in self._foreign or self._may_keep_foreign(caller):
                self._keep_foreign(subscriber_id, sequence, caller)
                self._changed = True
                if self.requested and sequence >= self.requested:
                    self._hurry.set()
        elif sequence > known:
            self._advance(subscriber_id, known, sequence)

    def _may_keep_foreign(self, caller: str) -> bool:
        return len(self._foreign) < _MAX_FOREIGN and (
            not caller or self._foreign_of[caller] < MAX_FOREIGN_PER_CALLER
        )

    def _keep_foreign(self, name: str, sequence: int, caller: str) -> None:
        if name not in self._foreign:
            self._foreign_of[caller] += 1
        self._foreign[name] = (sequence, self._clock.monotonic(), caller)

    def forget_progress(self) -> None:
        """Sequences of another log mean nothing here, nor do revisions of its key set."""
        self._applied = dict.fromkeys(self._applied, 0)
        self._levels = Counter({0: len(self._applied)} if self._applied else {})
        self._key_revisions = dict.fromkeys(self._key_revisions, 0)
        self._foreign.clear()
        self._foreign_of.clear()
        self._silent.clear()
        self._asked.clear()
        self._overdue = 0
        self.requested = self._announced = 0
        self._moved()

    @property
    def key_revision(self) -> int:
        """The lowest revision of the key set that any validator of this node has confirmed; 0 if there are
        none.
        """
        return min(self._key_revisions.values(), default=0)

    async def key_revision_of_all(self) -> tuple[int, int]:
        """How many validators are connected to any node, and the lowest revision of the key set that all of
        them have confirmed.
        """
        connected, revisions = len(self._key_revisions), list(self._key_revisions.values())
        for report in await self._nodes.reports(_REPORT_AGE):
            if report.node_id != self._node_id and report.connected:
                connected += report.connected
                revisions.append(report.key_revision)
        return connected, min(revisions, default=0)

    def counts(self, sequence: int, others: Iterable[NodeReport] = ()) -> tuple[int, int]:
        """How many validators are connected, the silent ones apart, and how many of them have applied
        `sequence`.
        """
        connected = len(self._applied) - len(self._silent)
        applied = sum(count for at, count in self._levels.items() if at >= sequence)
        for report in others:
            if report.node_id != self._node_id:
                connected += report.connected - _silent_in(report)
                applied += sum(count for at, count in report.applied if at >= sequence)
        return connected, applied

    @property
    def silent(self) -> int:
        """How many connected validators, of all nodes as far as they were looked at, have not confirmed for long
        although they were asked to. They are not waited for.
        """
        others = sum(_silent_in(report) for report in self._others if report.node_id != self._node_id)
        return len(self._silent) + others

    def heard(self, sequence: int) -> None:
        """Somebody waits for `sequence`, as all nodes can know."""
        self._announced = max(self._announced, sequence)
        self._request(sequence)

    async def wait_applied(self, sequence: int, timeout: float) -> tuple[int, int]:
        """Wait until every connected validator of every node has applied `sequence`, `timeout` seconds at
        most; the counts then.

        They are of all nodes, even if it takes longer than that to read once what others report. Raises
        `StoreUnavailableError`.
        """
        self._request(sequence)
        waiter = _Waiter(sequence, asyncio.get_running_loop().create_future())
        self._came.append(waiter)
        self._came_last = self._clock.monotonic()
        self._wanted.set()
        self._waiting += 1
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_all(), name="look-at-reports")
        try:
            async with asyncio.timeout(timeout):
                everybody = await waiter.done
                return everybody, everybody
        except TimeoutError:
            await waiter.seen.wait()
            if waiter.failure is not None:
                raise waiter.failure from None
            return self.counts(sequence, self._others)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._looking.cancel()
                self._looking = None
                self._came.clear()
                self._waiters.clear()
            elif len(self._waiters) > 2 * self._waiting + _MAX_GONE:
                # Those who went unheard would stay for as long as somebody waits.
                self._waiters[:] = [each for each in self._waiters if not each[2].done.done()]
                heapify(self._waiters)

    def _request(self, sequence: int) -> None:
        if sequence > self.requested:
            now = self._clock.monotonic()
            self.requested = sequence
            self._requested_at = now
            if self._asked and now - self._asked[-1][0] < _ASKED_STEP:
                self._asked[-1] = self._asked[-1][0], sequence
            else:
                self._asked.append((now, sequence))
            for listener in self._listeners:
                listener()

    # --- Looking at the reports, once for all who wait -------------------------------------------------------------

    async def _look_for_all(self) -> None:
        while True:
            now = self._clock.monotonic()
            due = self._looked + self._pace(now)
            if due - now > _EARLY:
                self._wanted.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(due - now):
                        await self._wanted.wait()
                continue
            self._looked = now
            self._find_silent(now)
            came, self._came = self._came, []
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                for waiter in (*came, *(waiter for _, _, waiter in self._waiters)):
                    waiter.failure = error
                    waiter.seen.set()
                    if not waiter.done.done():
                        waiter.done.set_exception(error)
                self._waiters.clear()
                continue
            for waiter in came:
                waiter.seen.set()
                if not waiter.done.done():
                    heappush(self._waiters, (waiter.sequence, next(self._order), waiter))
            self._settle()

    def _pace(self, now: float) -> float:
        if self._came:
            return _HURRY_INTERVAL
        return _EAGER_INTERVAL if now - self._came_last < _EAGER_FOR else _BUSY_INTERVAL

    async def _look(self) -> None:
        requested = self.requested
        if requested > self._announced:
            await self._nodes.request(requested)
            self._announced = max(self._announced, requested)
        self._others = await self._nodes.reports(_REPORT_AGE)
        self._take_in(self._others)

    def _settle(self) -> None:
        """Let those go whose sequence everybody has confirmed."""
        waiters = self._waiters
        if not waiters or waiters[0][0] > self._lowest():
            return
        everybody, reached = len(self._applied) - len(self._silent), self._lowest()
        for report in self._others:
            active = report.connected - _silent_in(report)
            if report.node_id != self._node_id and active:
                everybody += active
                places = (at for at, count in report.applied if count and at != SILENT)
                reached = min(reached, min(places, default=0))
        while waiters and waiters[0][0] <= reached:
            done = heappop(waiters)[2].done
            if not done.done():
                done.set_result(everybody)

    def _lowest(self) -> float:
        """What all validators of this node have confirmed, the silent ones apart."""
        return min(self._levels, default=inf)

    def _find_silent(self, now: float) -> None:
        """Stop waiting for validators that have owed a confirmation for too long. They count again once they have
        confirmed it.
        """
        while self._asked and now - self._asked[0][0] >= SILENT_AFTER:
            self._overdue = self._asked.popleft()[1]
        if self._lowest() >= self._overdue:
            return
        for name, at in self._applied.items():
            if (
                at < self._overdue
                and now - self._connected_at[name] >= SILENT_AFTER
                and name not in self._silent
            ):
                self._leave_level(at)
                self._silent.add(name)
                self._changed = True
        self._settle()

    # --- Telling the other nodes -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Exchange reports with the other nodes until cancelled."""
        failing = False
        reported = -inf
        try:
            while True:
                now = self._clock.monotonic()
                self._find_silent(now)
                due = self._changed or now - reported >= _IDLE_INTERVAL
                if due or self._misses_confirmations(now):
                    try:
                        if due:
                            await self._report(now)
                            reported = now
                        if self._applied:
                            self._take_in(await self._nodes.reports(_REPORT_AGE))
                        failing = False
                    except TokenServiceError as error:
                        if not failing:
                            logger.warning("no exchange with other nodes: %s", error.message)
                        failing = True
                await self._pause()
        finally:
            # A node that leaves in order need not be waited for.
            try:
                async with asyncio.timeout(1):
                    await self._nodes.forget(self._node_id)
            except (TokenServiceError, TimeoutError):
                pass

    async def _pause(self) -> None:
        """Until it is time to see whether there is something to report: sooner if somebody waits for it, but
        not for each confirmation.
        """
        await asyncio.sleep(_HURRY_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_INTERVAL - _HURRY_INTERVAL):
                await self._hurry.wait()
        self._hurry.clear()

    def _misses_confirmations(self, now: float) -> bool:
        """Whether somebody may be waiting for validators of this node, whose confirmations other nodes may
        have.
        """
        return self._lowest() < self.requested and now - self._requested_at < MAX_WAIT

    async def _report(self, now: float) -> None:
        self._changed = False
        self._foreign = {name: at for name, at in self._foreign.items() if now - at[1] < _FOREIGN_AGE}
        self._foreign_of = Counter(caller for _, _, caller in self._foreign.values())
        await self._nodes.report(
            NodeReport(
                self._node_id,
                len(self._applied),
                _pairs(self._levels, len(self._silent)),
                [(name, at[0]) for name, at in self._foreign.items()],
                self.key_revision,
            )
        )

    def _take_in(self, reports: Iterable[NodeReport]) -> None:
        """What validators of this node have confirmed to others."""
        for report in reports:
            if report.node_id != self._node_id:
                for name, sequence in report.foreign:
                    known = self._applied.get(name, sequence)
                    if known < sequence:
                        self._advance(name, known, sequence)

    def _put(self, name: str, sequence: int | None) -> None:
        """Where a validator of this node is; None: it is none any more. A silent one is at no level until it has
        confirmed what it owes.
        """
        known = self._applied.pop(name, None)
        if sequence is not None and sequence >= self._overdue and name in self._silent:
            self._silent.discard(name)
        elif known is not None and name not in self._silent:
            self._leave_level(known)
        if sequence is not None:
            self._applied[name] = sequence
            if name not in self._silent:
                self._levels[sequence] += 1

    def _leave_level(self, sequence: int) -> None:
        self._levels[sequence] -= 1
        if not self._levels[sequence]:
            del self._levels[sequence]

    def _advance(self, name: str, known: int, sequence: int) -> None:
        self._put(name, sequence)
        if known < self.requested <= sequence:
            self._hurry.set()
        self._moved()

    def _moved(self) -> None:
        self._changed = True
        self._settle()


def _pairs(levels: Counter[int], silent: int) -> list[tuple[int, int]]:
    """(sequence, count) pairs; beyond the limit the lowest are merged downwards, so none is said to be
    further than it is. The silent ones have a pair of their own.
    """
    most = _MAX_PAIRS - (silent > 0)
    pairs = sorted(levels.items(), reverse=True)
    if len(pairs) > most:
        rest = pairs[most - 1 :]
        pairs = [*pairs[: most - 1], (rest[-1][0], sum(count for _, count in rest))]
    return [*pairs, (SILENT, silent)] if silent else pairs


def _silent_in(report: NodeReport) -> int:
    return sum(count for at, count in report.applied if at == SILENT)
