"""The exchange with other nodes: each reports in the database how far its subscribers are.

Reports are written when something has changed, at most every so often. A wait hurries them: the head of the log names
the sequence, each node asks its own subscribers, and reports once they have confirmed, in one write for all that
confirm at about the same time.

A report names the log that its sequences are of. Nodes change over to another log at different times, so a report
may arrive that was made for the log before. Its confirmations and key revision then count as none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.subscribers.node_store import NodeReport, NodeStore
from token_service.core.subscribers.registry import Subscribers
from token_service.errors import TokenServiceError
from token_service.tokens.revocation import Cursor

_MAX_PAIRS: Final = 64
_SILENT: Final = -1
"""The place in the log that a report gives for silent subscribers. Nodes that do not know it wait for them."""
_REPORT_AGE: Final = 10.0
"""Seconds after which a node that has not reported counts as gone, and its subscribers as disconnected."""
_IDLE_INTERVAL: Final = 2.0
_BUSY_INTERVAL: Final = 0.25
_HURRY_INTERVAL: Final = 0.05
"""Seconds between two reports, however much hurries."""

logger = logging.getLogger(__name__)


class Reports:
    """The reports of all nodes: writes this node's, reads the others'. For one event loop."""

    def __init__(self, node_id: str, nodes: NodeStore, subscribers: Subscribers, clock: Clock) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._subscribers = subscribers
        self._clock = clock
        self._others: Sequence[NodeReport] = ()

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
                        if len(subscribers):
                            # Not kept for the waits: this read may be older than theirs.
                            self._take_in(await self._nodes.reports(_REPORT_AGE))
                        failing = False
                    except TokenServiceError as error:
                        if not failing:
                            logger.warning(
                                "reports about subscribers can't be exchanged with other nodes, tried again: %s",
                                error.message,
                            )
                        failing = True
                await self._pause()
        finally:
            # A node that leaves in order need not be waited for.
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._nodes.forget(self._node_id)

    async def write(self) -> None:
        """Replace this node's report. Raises `StoreUnavailableError`."""
        subscribers = self._subscribers
        subscribers.changed = False
        await self._nodes.report(
            NodeReport(
                self._node_id,
                len(subscribers),
                _pairs(subscribers.levels, subscribers.silent),
                subscribers.foreign(),
                subscribers.key_revision,
                epoch=subscribers.epoch,
            )
        )

    async def read(self) -> None:
        """Read the other nodes' reports, and take in what subscribers of this node confirmed there.

        Raises `StoreUnavailableError`.
        """
        reports = await self._nodes.reports(_REPORT_AGE)
        self._others = [report for report in reports if report.node_id != self._node_id]
        self._take_in(self._others)

    async def announce(self) -> None:
        """Let all nodes know up to where confirmations are waited for. Raises `StoreUnavailableError`."""
        requested = self._subscribers.requested
        if requested > self._subscribers.announced:
            await self._nodes.request(requested)
            self._subscribers.announced = max(self._subscribers.announced, requested)

    def counts(self, cursor: Cursor) -> tuple[int, int]:
        """Count the subscribers of all nodes, without the silent ones, and those of them that have applied `cursor`.

        Uses the reports read last. A subscriber of a node that follows another log counts as not having applied it.
        """
        connected, applied = self._subscribers.counts(cursor.sequence)
        if cursor.epoch != self._subscribers.epoch:
            applied = 0
        for report in self._others:
            connected += report.connected - _silent_in(report)
            if _is_of(report, cursor.epoch):
                applied += sum(count for at, count in report.applied if at >= cursor.sequence)
        return connected, applied

    @property
    def reached(self) -> float:
        """The sequence of this node's log that all subscribers of all nodes have confirmed, without the silent ones.

        Uses the reports read last.
        """
        return min((self._subscribers.lowest, *self._reached_elsewhere()))

    @property
    def silent(self) -> int:
        """How many connected subscribers of all nodes have not confirmed for long although they were asked to.

        Waits end without them.
        """
        return self._subscribers.silent + sum(_silent_in(report) for report in self._others)

    async def key_revision_of_all(self) -> tuple[int, int]:
        """Count the subscribers of all nodes, and return the lowest key set revision that all of them have confirmed.

        Raises `StoreUnavailableError`.
        """
        revisions = self._subscribers.key_revisions
        connected = len(revisions)
        for report in await self._nodes.reports(_REPORT_AGE):
            if report.node_id != self._node_id and report.connected:
                connected += report.connected
                # A command that changes keys follows no log.
                same_log = not self._subscribers.epoch or _is_of(report, self._subscribers.epoch)
                revisions.append(report.key_revision if same_log else 0)
        return connected, min(revisions, default=0)

    def _take_in(self, reports: Sequence[NodeReport]) -> None:
        for report in reports:
            if report.node_id != self._node_id and _is_of(report, self._subscribers.epoch):
                for name, sequence in report.foreign:
                    self._subscribers.advance(name, sequence)

    def _reached_elsewhere(self) -> Iterator[int]:
        for report in self._others:
            if report.connected > _silent_in(report):
                same_log = _is_of(report, self._subscribers.epoch)
                yield (
                    min((at for at, count in report.applied if count and at != _SILENT), default=0)
                    if same_log
                    else 0
                )

    async def _pause(self) -> None:
        """Wait until the next report may be due: sooner if a wait needs it, but not for each confirmation."""
        await asyncio.sleep(_HURRY_INTERVAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_BUSY_INTERVAL - _HURRY_INTERVAL):
                await self._subscribers.hurry.wait()
        self._subscribers.hurry.clear()


def _pairs(levels: Mapping[int, int], silent: int) -> list[tuple[int, int]]:
    """(sequence, count) pairs; beyond the limit the lowest are merged downwards, so none is said to be
    further than it is. The silent ones have a pair of their own.
    """
    most = _MAX_PAIRS - (silent > 0)
    pairs = sorted(levels.items(), reverse=True)
    if len(pairs) > most:
        rest = pairs[most - 1 :]
        pairs = [*pairs[: most - 1], (rest[-1][0], sum(count for _, count in rest))]
    return [*pairs, (_SILENT, silent)] if silent else pairs


def _is_of(report: NodeReport, epoch: str) -> bool:
    """Whether the sequences of a report are of this log. Release 0.1.0 does not say, and is believed."""
    return report.epoch is None or report.epoch == epoch


def _silent_in(report: NodeReport) -> int:
    return sum(count for at, count in report.applied if at == _SILENT)
