"""The exchange with other nodes: each node reports the confirmations of its subscribers in the database.

A node writes its report after a change, at a limited rate. A wait speeds reports up: the head of the log names the
sequence, and each node asks its own subscribers for it. The node reports after they have confirmed, in one write for
all that confirm at about the same time.

A report names the log that its sequences belong to. Nodes change to another log at different times, so a node may
read a report for an earlier log. The confirmations and the key revision of such a report do not count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from token_service.clock import Clock
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import NodeReport, NodeStore
from token_service.core.subscribers.registry import Subscribers
from token_service.errors import TokenServiceError
from token_service.tokens.revocation import Cursor

_MAX_PAIRS: Final = 64
_SILENT: Final = -1
"""The sequence that stands for silent subscribers in a report. Nodes of older releases wait for these subscribers."""
REPORT_AGE: Final = 10.0
"""Seconds without a report after which a node counts as ended, and its subscribers as disconnected."""
_IDLE_INTERVAL: Final = 2.0
_BUSY_INTERVAL: Final = 0.25
_HURRY_INTERVAL: Final = 0.05
"""The shortest time between two reports, in seconds."""

logger = logging.getLogger(__name__)


class AnswersRequests(Protocol):
    """Answers the requests of other nodes for the list of this node's subscribers."""

    @property
    def is_written(self) -> bool:
        """Whether the list of this node is in the database."""

    async def answer(self, reports: Sequence[NodeReport], /) -> None:
        """Write or delete the list of this node, as the reports of the other nodes ask."""
        ...


@dataclass(frozen=True, slots=True)
class KeyKnowledge:
    """The connected subscribers of all nodes, and those that have not confirmed a revision of the key set."""

    connected: int
    behind_here: Sequence[str]
    """Names of subscribers of this node, in order."""
    behind_nodes: Sequence[str]
    """Other nodes with such a subscriber. Their reports do not tell how many."""

    @property
    def behind(self) -> int:
        """The number of these subscribers; one for each other node that has any."""
        return len(self.behind_here) + len(self.behind_nodes)


class Reports:
    """The reports of all nodes. Writes this node's report and reads the others'. Belongs to one event loop."""

    def __init__(self, node_id: str, nodes: NodeStore, subscribers: Subscribers, clock: Clock) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._subscribers = subscribers
        self._clock = clock
        self._others: Sequence[NodeReport] = ()
        self._describe: Callable[[], NodeDetails | None] = lambda: None
        self._lists: AnswersRequests | None = None
        self._wanted_until = -inf

    def answer_by(self, lists: AnswersRequests) -> None:
        """Let `lists` answer the requests of other nodes for the list of this node's subscribers."""
        self._lists = lists

    def describe_by(self, describe: Callable[[], NodeDetails]) -> None:
        """Add the result of `describe` to each report of this node."""
        self._describe = describe

    async def run(self) -> None:
        """Exchange reports with the other nodes until cancelled."""
        subscribers = self._subscribers
        failing = False
        reported = -inf
        try:
            while True:
                now = self._clock.monotonic()
                subscribers.find_silent()
                due = subscribers.changed or now - reported >= _IDLE_INTERVAL
                if due or subscribers.owe_confirmations:
                    try:
                        if due:
                            await self.write()
                            reported = now
                        if len(subscribers) or (self._lists is not None and self._lists.is_written):
                            # `_others` keeps the reports that the waits have read: those may be newer.
                            reports = await self._nodes.reports(REPORT_AGE)
                            self._take_in(reports)
                            if self._lists is not None:
                                await self._lists.answer(reports)
                        failing = False
                    except TokenServiceError as error:
                        if not failing:
                            logger.warning(
                                "can't exchange reports about subscribers with other nodes; tried again: %s",
                                error.message,
                            )
                        failing = True
                await self._pause()
        finally:
            # Waits of other nodes need not wait for a node that stops in order.
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._nodes.forget(self._node_id)

    async def write(self) -> None:
        """Write this node's report. Raises `StoreUnavailableError`."""
        self._subscribers.changed = False
        await self._nodes.report(self._own())

    async def want_subscribers(self, seconds: float) -> None:
        """Ask the other nodes for the lists of their subscribers, for some seconds. Raises `StoreUnavailableError`."""
        was_wanted = self._wants_subscribers
        self._wanted_until = self._clock.monotonic() + seconds
        if not was_wanted:
            await self.write()

    @property
    def _wants_subscribers(self) -> bool:
        return self._clock.monotonic() < self._wanted_until

    async def of_all(self) -> Sequence[NodeReport]:
        """Return the reports of all running nodes by node id, with the present state of this node.

        Raises `StoreUnavailableError`.
        """
        others = [
            report for report in await self._nodes.reports(REPORT_AGE) if report.node_id != self._node_id
        ]
        return sorted([*others, self._own()], key=lambda report: report.node_id)

    def _own(self) -> NodeReport:
        subscribers = self._subscribers
        return NodeReport(
            self._node_id,
            len(subscribers),
            _pairs(subscribers.levels, subscribers.silent),
            subscribers.foreign(),
            subscribers.key_revision,
            epoch=subscribers.epoch,
            details=self._describe(),
            wants_subscribers=self._wants_subscribers,
        )

    async def read(self) -> None:
        """Read the reports of other nodes, and note the confirmations in them that belong to this node's subscribers.

        Raises `StoreUnavailableError`.
        """
        reports = await self._nodes.reports(REPORT_AGE)
        self._others = [report for report in reports if report.node_id != self._node_id]
        self._take_in(self._others)

    async def announce(self) -> None:
        """Tell all nodes the highest sequence that a wait needs confirmed. Raises `StoreUnavailableError`."""
        requested = self._subscribers.requested
        if requested > self._subscribers.announced:
            await self._nodes.request(requested)
            self._subscribers.announced = max(self._subscribers.announced, requested)

    def counts(self, cursor: Cursor) -> tuple[int, int]:
        """Count the subscribers of all nodes without the silent ones, and how many of these applied `cursor`.

        Uses the latest reports that were read. A subscriber of a node that follows another log counts as not having
        applied `cursor`.
        """
        connected, applied = self._subscribers.counts(cursor.sequence)
        if cursor.epoch != self._subscribers.epoch:
            applied = 0
        for report in self._others:
            connected += report.connected - silent_in(report)
            applied += applied_in(report, cursor)
        return connected, applied

    @property
    def reached(self) -> float:
        """The sequence of this node's log that all subscribers of all nodes, except the silent ones, have confirmed.

        Uses the latest reports that were read.
        """
        return min((self._subscribers.lowest, *self._reached_elsewhere()))

    @property
    def silent(self) -> int:
        """The number of silent subscribers of all nodes: connected, but overdue with a requested confirmation.

        Waits ignore them.
        """
        return self._subscribers.silent + sum(silent_in(report) for report in self._others)

    async def knowledge(self, key_revision: int) -> KeyKnowledge:
        """Return which subscribers of all nodes have not confirmed a key set revision. Changes nothing.

        Raises `StoreUnavailableError`.
        """
        behind = self._subscribers.behind_keys(key_revision)
        connected = len(self._subscribers)
        nodes = []
        for report in await self._nodes.reports(REPORT_AGE, purge=False):
            if report.node_id == self._node_id or not report.connected:
                continue
            connected += report.connected
            same_log = not self._subscribers.epoch or _is_of(report, self._subscribers.epoch)
            if not same_log or report.key_revision < key_revision:
                nodes.append(report.node_id)
        return KeyKnowledge(connected, behind, nodes)

    async def key_revision_of_all(self) -> tuple[int, int]:
        """Count the subscribers of all nodes, and return the lowest key set revision that all of them have confirmed.

        Raises `StoreUnavailableError`.
        """
        revisions = self._subscribers.key_revisions
        connected = len(revisions)
        for report in await self._nodes.reports(REPORT_AGE):
            if report.node_id != self._node_id and report.connected:
                connected += report.connected
                # A command that changes keys follows no log, so it compares no log names.
                same_log = not self._subscribers.epoch or _is_of(report, self._subscribers.epoch)
                revisions.append(report.key_revision if same_log else 0)
        return connected, min(revisions, default=0)

    def _take_in(self, reports: Sequence[NodeReport]) -> None:
        for report in reports:
            if report.node_id != self._node_id and _is_of(report, self._subscribers.epoch):
                for name, sequence in report.foreign:
                    self._subscribers.advance(name, sequence)

    def _reached_elsewhere(self) -> Iterator[float]:
        for report in self._others:
            yield lowest_in(report, self._subscribers.epoch)

    async def _pause(self) -> None:
        """Wait until the next report may be due. A wait shortens this time; a report has several confirmations."""
        await asyncio.sleep(_HURRY_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_INTERVAL - _HURRY_INTERVAL):
                await self._subscribers.hurry.wait()
        self._subscribers.hurry.clear()


def _pairs(levels: Mapping[int, int], silent: int) -> list[tuple[int, int]]:
    """Return (sequence, count) pairs. The silent subscribers have their own pair.

    Beyond the limit the lowest pairs become one pair with their lowest sequence, so no subscriber counts as further
    than it is.
    """
    most = _MAX_PAIRS - (silent > 0)
    pairs = sorted(levels.items(), reverse=True)
    if len(pairs) > most:
        rest = pairs[most - 1 :]
        pairs = [*pairs[: most - 1], (rest[-1][0], sum(count for _, count in rest))]
    return [*pairs, (_SILENT, silent)] if silent else pairs


def _is_of(report: NodeReport, epoch: str) -> bool:
    """Tell whether the sequences of a report belong to this log. A report of release 0.1.0 names no log and counts."""
    return report.epoch is None or report.epoch == epoch


def silent_in(report: NodeReport) -> int:
    """Return the number of silent subscribers of a node."""
    return sum(count for at, count in report.applied if at == _SILENT)


def applied_in(report: NodeReport, cursor: Cursor) -> int:
    """Return the number of subscribers of a node that have confirmed a place in the log."""
    if not _is_of(report, cursor.epoch):
        return 0
    return sum(count for at, count in report.applied if at >= cursor.sequence)


def behind_in(report: NodeReport, head: Cursor) -> int:
    """Return the number of subscribers of a node, silent ones included, that have not confirmed the head of the log."""
    if not _is_of(report, head.epoch):
        return report.connected
    return sum(count for at, count in report.applied if at < head.sequence)


def lowest_in(report: NodeReport, epoch: str) -> float:
    """Return the sequence of a log that all subscribers of a node, except the silent ones, have confirmed.

    Infinity without such subscribers.
    """
    if report.connected <= silent_in(report):
        return inf
    if not _is_of(report, epoch):
        return 0
    return min((at for at, count in report.applied if count and at != _SILENT), default=0)
