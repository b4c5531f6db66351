"""Which validators are connected, here and on other nodes, and what each has confirmed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.ports import NodeReport, NodeStore
from token_service.errors import TokenServiceError

_MAX_PAIRS: Final = 64
_MAX_FOREIGN: Final = 4096
_FOREIGN_AGE: Final = 10.0
_REPORT_AGE: Final = 10.0
"""Seconds after which a node that has not reported counts as gone, and its validators as disconnected."""
_IDLE_INTERVAL: Final = 2.0
_BUSY_INTERVAL: Final = 0.25

logger = logging.getLogger(__name__)


class Validators:
    """The validators of this node, and the reports of the others. For one event loop."""

    def __init__(self, node_id: str, nodes: NodeStore, clock: Clock) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._clock = clock
        self._streams: Counter[str] = Counter()
        self._applied: dict[str, int] = {}
        self._key_revisions: dict[str, int] = {}
        self._foreign: dict[str, tuple[int, float]] = {}
        self._changed = True
        self._progress = asyncio.Event()
        self.requested = 0
        """The highest sequence that somebody waits for."""
        self._listeners: list[Callable[[], None]] = []

    def on_request(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `requested` has grown."""
        self._listeners.append(listener)

    def connect(self, subscriber_id: str) -> None:
        """A stream of this validator was opened here."""
        self._streams[subscriber_id] += 1
        self._applied.setdefault(subscriber_id, 0)
        self._key_revisions.setdefault(subscriber_id, 0)
        self._moved()

    def disconnect(self, subscriber_id: str) -> None:
        """A stream of this validator ended."""
        self._streams[subscriber_id] -= 1
        if self._streams[subscriber_id] <= 0:
            del self._streams[subscriber_id]
            self._applied.pop(subscriber_id, None)
            self._key_revisions.pop(subscriber_id, None)
        self._moved()

    def confirm(self, subscriber_id: str, sequence: int, key_revision: int = 0) -> None:
        """This validator has applied everything up to `sequence`, and uses the key set of `key_revision`."""
        known = self._applied.get(subscriber_id)
        if key_revision > self._key_revisions.get(subscriber_id, key_revision):
            self._key_revisions[subscriber_id] = key_revision
            self._changed = True
        if known is None:
            # Its stream is on another node, which learns of it from this node's report.
            if len(self._foreign) < _MAX_FOREIGN or subscriber_id in self._foreign:
                self._foreign[subscriber_id] = (sequence, self._clock.monotonic())
                self._changed = True
        elif sequence > known:
            self._applied[subscriber_id] = sequence
            self._moved()

    def forget_progress(self) -> None:
        """Sequences of another log mean nothing here, nor do revisions of its key set."""
        self._applied = dict.fromkeys(self._applied, 0)
        self._key_revisions = dict.fromkeys(self._key_revisions, 0)
        self._foreign.clear()
        self.requested = 0
        self._moved()

    @property
    def key_revision(self) -> int:
        """The lowest revision of the key set that any validator of this node has confirmed; 0 if there are none."""
        return min(self._key_revisions.values(), default=0)

    async def key_revision_of_all(self) -> tuple[int, int]:
        """How many validators are connected to any node, and the lowest revision of the key set that all of them have confirmed."""
        connected, revisions = len(self._key_revisions), list(self._key_revisions.values())
        for report in await self._nodes.reports(_REPORT_AGE):
            if report.node_id != self._node_id and report.connected:
                connected += report.connected
                revisions.append(report.key_revision)
        return connected, min(revisions, default=0)

    def counts(self, sequence: int, others: Iterable[NodeReport] = ()) -> tuple[int, int]:
        """How many validators are connected, and how many of them have applied `sequence`."""
        connected = len(self._applied)
        applied = sum(1 for at in self._applied.values() if at >= sequence)
        for report in others:
            if report.node_id != self._node_id:
                connected += report.connected
                applied += sum(count for at, count in report.applied if at >= sequence)
        return connected, applied

    async def wait_applied(self, sequence: int, timeout: float) -> tuple[int, int]:
        """Wait until every connected validator of every node has applied `sequence`, `timeout` seconds at most; the counts then."""
        if sequence > self.requested:
            self.requested = sequence
            for listener in self._listeners:
                listener()
        others: Sequence[NodeReport] = ()
        counts = self.counts(sequence)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._progress.clear()
                    others = await self._nodes.reports(_REPORT_AGE)
                    self._take_in(others)
                    counts = self.counts(sequence, others)
                    if counts[0] == counts[1]:
                        return counts
                    await self._wait_for_progress(sequence, others)
        except TimeoutError:
            return self.counts(sequence, others)

    async def _wait_for_progress(self, sequence: int, others: Sequence[NodeReport]) -> None:
        """Until all validators of this node are done or another node may have reported."""
        try:
            async with asyncio.timeout(_BUSY_INTERVAL):
                while True:
                    await self._progress.wait()
                    self._progress.clear()
                    connected, applied = self.counts(sequence, others)
                    if connected == applied:
                        return
        except TimeoutError:
            return

    async def run(self) -> None:
        """Exchange reports with the other nodes until cancelled."""
        failing = False
        reported = float("-inf")
        try:
            while True:
                now = self._clock.monotonic()
                if self._changed or now - reported >= _IDLE_INTERVAL:
                    try:
                        await self._exchange(now)
                        reported = now
                        failing = False
                    except TokenServiceError as error:
                        if not failing:
                            logger.warning("no exchange with other nodes: %s", error.message)
                        failing = True
                await asyncio.sleep(_BUSY_INTERVAL)
        finally:
            # A node that leaves in order need not be waited for.
            try:
                async with asyncio.timeout(1):
                    await self._nodes.forget(self._node_id)
            except (TokenServiceError, TimeoutError):
                pass

    async def _exchange(self, now: float) -> None:
        self._changed = False
        self._foreign = {name: at for name, at in self._foreign.items() if now - at[1] < _FOREIGN_AGE}
        await self._nodes.report(
            NodeReport(
                self._node_id,
                len(self._applied),
                _pairs(self._applied.values()),
                [(name, at[0]) for name, at in self._foreign.items()],
                self.key_revision,
            )
        )
        if not self._applied:
            return
        self._take_in(await self._nodes.reports(_REPORT_AGE))

    def _take_in(self, reports: Iterable[NodeReport]) -> None:
        """What validators of this node have confirmed to others."""
        for report in reports:
            if report.node_id != self._node_id:
                for name, sequence in report.foreign:
                    if self._applied.get(name, sequence) < sequence:
                        self._applied[name] = sequence
                        self._moved()

    def _moved(self) -> None:
        self._changed = True
        self._progress.set()


def _pairs(applied: Iterable[int]) -> list[tuple[int, int]]:
    """(sequence, count) pairs; beyond the limit the lowest are merged downwards, so none is said to be further than it is."""
    pairs = sorted(Counter(applied).items(), reverse=True)
    if len(pairs) > _MAX_PAIRS:
        rest = pairs[_MAX_PAIRS - 1 :]
        pairs = [*pairs[: _MAX_PAIRS - 1], (rest[-1][0], sum(count for _, count in rest))]
    return pairs
