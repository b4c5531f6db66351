"""The lists of the subscribers of all nodes, exchanged only while an operator asks for them.

A node that is asked marks its report. The other nodes read the mark with the reports, at their usual interval, write the
lists of their subscribers beside their reports, and write them again while the mark lasts. Then they delete them. So the
details of thousands of subscribers cost no writes while they are not asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.subscribers.node_store import ListedSubscriber, NodeReport, NodeStore, SubscriberList
from token_service.core.subscribers.registry import Member, Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.validations import ValidationReports, Validations

MAX_LISTED: Final = 20_000
"""Subscribers in the list of one node; the ones furthest behind are in it."""
LIST_WAIT: Final = 5.0
"""Seconds to wait for the lists of other nodes."""
_WANTED: Final = 10.0
"""Seconds after a request in which nodes write their lists again."""
_INTERVAL: Final = 2.0
"""Seconds between two lists of a node."""
_MAX_AGE: Final = 3.0
"""The age of a list, when it is asked for, up to which it need not be written again."""
_KEPT: Final = 2.0
"""Seconds for which collected lists answer further requests, such as those for the next pages."""
_POLL: Final = 0.2
_AT_ONCE: Final = 500
"""Subscribers that are listed before other tasks run. All 10,000 of a node would take 0.1 s."""


@dataclass(frozen=True, slots=True)
class Lists:
    """The lists of the running nodes."""

    of_node: Mapping[str, SubscriberList]
    missing: Sequence[str]
    """The nodes that have subscribers and did not write their list in time, by node id."""


class SubscriberLists:
    """Writes the list of this node while another node asks, and collects the lists of all nodes."""

    def __init__(
        self,
        node_id: str,
        nodes: NodeStore,
        reports: Reports,
        subscribers: Subscribers,
        validations: ValidationReports,
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._nodes = nodes
        self._reports = reports
        self._subscribers = subscribers
        self._validations = validations
        self._clock = clock
        self._written_at = -inf
        self._collecting = asyncio.Lock()
        self._kept: tuple[float, str, Lists] | None = None
        self.is_written = False
        """Whether the list of this node is in the database."""

    async def answer(self, reports: Sequence[NodeReport]) -> None:
        """Write or delete the list of this node, as the reports of the other nodes ask. Raises `StoreUnavailableError`."""
        wanted = any(report.wants_subscribers for report in reports if report.node_id != self._node_id)
        now = self._clock.monotonic()
        if wanted and now - self._written_at >= _INTERVAL:
            self._written_at, self.is_written = now, True
            await self._nodes.put_list(self._node_id, await self.own())
        elif self.is_written and not wanted:
            await self._nodes.put_list(self._node_id, None)
            self.is_written = False

    async def collect(self, node_id: str = "") -> Lists:
        """Return the lists of all nodes, or only of one. Waits for them at most `LIST_WAIT` seconds.

        A list is at most a few seconds old. Raises `StoreUnavailableError`.
        """
        async with self._collecting:
            began = self._clock.monotonic()
            if self._kept is not None and self._kept[1] == node_id and began - self._kept[0] < _KEPT:
                return self._kept[2]
            found = await self._collect(node_id, began)
            self._kept = (began, node_id, found)
            return found

    async def _collect(self, node_id: str, began: float) -> Lists:
        if node_id == self._node_id:
            return Lists({node_id: await self.own()}, ())
        await self._reports.want_subscribers(_WANTED)
        while True:
            reports = await self._reports.of_all()
            elapsed = self._clock.monotonic() - began
            others = [
                report
                for report in reports
                if report.node_id != self._node_id and report.connected and node_id in {"", report.node_id}
            ]
            late = [report for report in others if not _has_list(report, elapsed)]
            # A node of an earlier version never writes a list.
            if elapsed >= LIST_WAIT or all(report.details is None for report in late):
                break
            await asyncio.sleep(_POLL)
        missing = {report.node_id for report in late}
        lists = dict(await self._nodes.lists([r.node_id for r in others if r.node_id not in missing]))
        missing |= {report.node_id for report in others} - lists.keys()  # ended since
        if not node_id:
            lists[self._node_id] = await self.own()
        return Lists(lists, sorted(missing))

    async def own(self) -> SubscriberList:
        """Return the list of this node. Other tasks run meanwhile."""
        epoch, now = self._subscribers.epoch, self._clock.monotonic()
        furthest = nsmallest(
            MAX_LISTED, self._subscribers.members(), key=lambda each: (each.sequence, each.subscriber)
        )
        listed = []
        for number, each in enumerate(furthest, 1):
            listed.append(_listed(each, self._validations.of(each.subscriber), now))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return SubscriberList(epoch, listed)


def _has_list(report: NodeReport, elapsed: float) -> bool:
    """Tell whether a node has a list that is recent enough for a request made `elapsed` seconds ago."""
    return report.list_age is not None and report.list_age <= elapsed + _MAX_AGE


def _listed(member: Member, reported: Validations | None, now: float) -> ListedSubscriber:
    counts = reported or Validations("")
    return ListedSubscriber(
        subscriber=member.subscriber,
        name=member.name,
        caller=member.caller,
        sequence=member.sequence,
        connected_for=now - member.connected_at,
        confirmation_age=None if member.confirmed_at is None else now - member.confirmed_at,
        is_silent=member.is_silent,
        key_revision=member.key_revision,
        client_version=counts.client_version,
        validated=counts.validated,
        refusals=dict(counts.refusals),
    )
