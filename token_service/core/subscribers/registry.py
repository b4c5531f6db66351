"""Connected subscribers of this node and of other nodes, and the sequence that each has confirmed.

Nodes exchange reports through the database. A node writes its report after a change, at a limited rate.
A call that waits for confirmations speeds this up: the head of the log names the awaited sequence, each node
asks its own subscribers, and reports once they have confirmed. One write covers all confirmations that arrive
at about the same time. All waiting calls of a node share each read of the reports.
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
"""Names of subscribers connected to other nodes whose confirmations are kept for one caller."""
SILENT_AFTER: Final = 10.0
"""Seconds after which a subscriber that was asked to confirm, and has not, counts as silent."""
SILENT: Final = -1
"""The sequence that a report gives for silent subscribers. Nodes that do not know this value wait for them."""
_ASKED_STEP: Final = 0.5
"""Seconds within which requests count as made at the time of the first one."""
_FOREIGN_AGE: Final = 10.0
_REPORT_AGE: Final = 10.0
"""Seconds after which a node that has not reported counts as gone, and its subscribers as disconnected."""
_IDLE_INTERVAL: Final = 2.0
_BUSY_INTERVAL: Final = 0.25
_HURRY_INTERVAL: Final = 0.05
"""Minimal seconds between two reports, or between two reads of the reports."""
_EAGER_INTERVAL: Final = 0.1
"""Seconds between two reads of the reports during the first `_EAGER_FOR` seconds of a wait."""
_EAGER_FOR: Final = 2.0
"""Seconds after which a waiting call reads the reports only every `_BUSY_INTERVAL`."""
_EARLY: Final = 0.001
"""Seconds that a read may begin early, because a timer may fire slightly early."""
_MAX_GONE: Final = 64
"""Cancelled waiters, beyond the number of live ones, that are tolerated before the heap is compacted."""

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call that waits until all subscribers have confirmed a sequence; `done` gets the number of subscribers."""

    sequence: int
    done: asyncio.Future[int]
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a read of the reports that began after this call has succeeded or failed."""
    failure: Exception | None = None
    """The error of the last read, if it failed."""


class Validators:
    """The subscribers of this node, and the reports of the other nodes. For one event loop."""

    def __init__(self, node_id: str, nodes: NodeStore, clock: Clock) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._clock = clock
        self._streams: Counter[str] = Counter()
        self._applied: dict[str, int] = {}
        self._levels: Counter[int] = Counter()
        """Number of subscribers per confirmed sequence, without the silent ones."""
        self._connected_at: dict[str, float] = {}
        self._silent: set[str] = set()
        """Subscribers of this node that have owed a confirmation for too long: connected, but in no level."""
        self._asked: deque[tuple[float, int]] = deque()
        """Requests as (time, sequence), the latest last."""
        self._overdue = 0
        """The highest sequence requested at least `SILENT_AFTER` seconds ago: a subscriber below it is silent."""
        self._key_revisions: dict[str, int] = {}
        self._foreign: dict[str, tuple[int, float, str]] = {}
        self._foreign_of: Counter[str] = Counter()
        self._changed = True
        self._hurry = asyncio.Event()
        self.requested = 0
        """The highest sequence that a call waits for, at any node."""
        self._requested_at = -inf
        self._announced = 0
        """The highest requested sequence that the head of the log names."""
        self._others: Sequence[NodeReport] = ()
        self._looked = -inf
        self._came: list[_Waiter] = []
        """Calls that wait for the next read of the reports to begin."""
        self._waiters: list[tuple[int, int, _Waiter]] = []
        """A heap of the calls that a read has covered, the lowest sequence first."""
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
        """Record that a stream of this subscriber was opened here."""
        self._streams[subscriber_id] += 1
        if subscriber_id not in self._applied:
            self._put(subscriber_id, 0)
            self._connected_at[subscriber_id] = self._clock.monotonic()
        self._key_revisions.setdefault(subscriber_id, 0)
        self._moved()

    def disconnect(self, subscriber_id: str) -> None:
        """Record that a stream of this subscriber ended."""
        self._streams[subscriber_id] -= 1
        if self._streams[subscriber_id] <= 0:
            del self._streams[subscriber_id]
            self._put(subscriber_id, None)
            self._silent.discard(subscriber_id)
            del self._connected_at[subscriber_id]
            self._key_revisions.pop(subscriber_id, None)
        self._moved()

    def confirm(self, subscriber_id: str, sequence: int, key_revision: int = 0, *, caller: str = "") -> None:
        """Record that this subscriber has applied all entries up to `sequence` and the key set `key_revision`.

        `caller` is the identity that confirms. Names of subscribers that are not connected here are kept up to a
        limit per caller, and ignored beyond it: invented names must not displace the names of other callers.
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
        """Forget all sequences and key revisions: those of another log mean nothing here."""
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
        """The lowest revision of the key set that any subscriber of this node has confirmed; 0 without any."""
        return min(self._key_revisions.values(), default=0)

    async def key_revision_of_all(self) -> tuple[int, int]:
        """Return the subscribers connected to all nodes, and the lowest key revision that any has confirmed."""
        connected, revisions = len(self._key_revisions), list(self._key_revisions.values())
        for report in await self._nodes.reports(_REPORT_AGE):
            if report.node_id != self._node_id and report.connected:
                connected += report.connected
                revisions.append(report.key_revision)
        return connected, min(revisions, default=0)

    def counts(self, sequence: int, others: Iterable[NodeReport] = ()) -> tuple[int, int]:
        """Count the connected subscribers without the silent ones, and those that have applied `sequence`."""
        connected = len(self._applied) - len(self._silent)
        applied = sum(count for at, count in self._levels.items() if at >= sequence)
        for report in others:
            if report.node_id != self._node_id:
                connected += report.connected - _silent_in(report)
                applied += sum(count for at, count in report.applied if at >= sequence)
        return connected, applied

    @property
    def silent(self) -> int:
        """The number of silent subscribers of all nodes, by the reports read last. No call waits for them."""
        others = sum(_silent_in(report) for report in self._others if report.node_id != self._node_id)
        return len(self._silent) + others

    def heard(self, sequence: int) -> None:
        """Take in the sequence that the head of the log names as awaited, and request it here."""
        self._announced = max(self._announced, sequence)
        self._request(sequence)

    async def wait_applied(self, sequence: int, timeout: float) -> tuple[int, int]:
        """Wait until every connected subscriber of every node has applied `sequence`; return the counts.

        Waits `timeout` seconds at most, but longer if the first read of the reports takes longer: the counts
        always include all nodes. Raises `StoreUnavailableError`.
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
                connected = await waiter.done
                return connected, connected
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
                # Cancelled waiters would otherwise stay for as long as another call waits.
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

    # --- Reading the reports, once for all waiting calls -----------------------------------------------------------

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
            except Exception as error:  # noqa: BLE001 - passed to every waiting call
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
        """Complete the waiters whose sequence all subscribers have confirmed."""
        waiters = self._waiters
        if not waiters or waiters[0][0] > self._lowest():
            return
        connected, reached = len(self._applied) - len(self._silent), self._lowest()
        for report in self._others:
            active = report.connected - _silent_in(report)
            if report.node_id != self._node_id and active:
                connected += active
                places = (at for at, count in report.applied if count and at != SILENT)
                reached = min(reached, min(places, default=0))
        while waiters and waiters[0][0] <= reached:
            done = heappop(waiters)[2].done
            if not done.done():
                done.set_result(connected)

    def _lowest(self) -> float:
        """Return the sequence that all subscribers of this node, without the silent ones, have confirmed."""
        return min(self._levels, default=inf)

    def _find_silent(self, now: float) -> None:
        """Mark subscribers that have owed a confirmation for too long as silent.

        A silent subscriber counts again once it has confirmed the overdue sequence.
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

    # --- Reporting to the other nodes ------------------------------------------------------------------------------

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
                            logger.warning(
                                "can't exchange subscriber reports with other nodes, trying again: %s",
                                error.message,
                            )
                        failing = True
                await self._pause()
        finally:
            # Other nodes need not wait for a node that shuts down in order.
            try:
                async with asyncio.timeout(1):
                    await self._nodes.forget(self._node_id)
            except (TokenServiceError, TimeoutError):
                pass

    async def _pause(self) -> None:
        """Sleep until the next report is due: a shorter time if a call waits for it, but not once per confirmation."""
        await asyncio.sleep(_HURRY_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_INTERVAL - _HURRY_INTERVAL):
                await self._hurry.wait()
        self._hurry.clear()

    def _misses_confirmations(self, now: float) -> bool:
        """Tell whether a call may wait for subscribers of this node whose confirmations reached other nodes."""
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
        """Apply confirmations that subscribers of this node have sent to other nodes."""
        for report in reports:
            if report.node_id != self._node_id:
                for name, sequence in report.foreign:
                    known = self._applied.get(name, sequence)
                    if known < sequence:
                        self._advance(name, known, sequence)

    def _put(self, name: str, sequence: int | None) -> None:
        """Set the sequence that a subscriber of this node has confirmed; None removes the subscriber.

        A silent subscriber is in no level until it has confirmed the overdue sequence.
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
    """Return (sequence, count) pairs; silent subscribers have their own pair.

    Beyond the limit the lowest pairs are merged downward, so no subscriber is reported ahead of its sequence.
    """
    most = _MAX_PAIRS - (silent > 0)
    pairs = sorted(levels.items(), reverse=True)
    if len(pairs) > most:
        rest = pairs[most - 1 :]
        pairs = [*pairs[: most - 1], (rest[-1][0], sum(count for _, count in rest))]
    return [*pairs, (SILENT, silent)] if silent else pairs


def _silent_in(report: NodeReport) -> int:
    return sum(count for at, count in report.applied if at == SILENT)
