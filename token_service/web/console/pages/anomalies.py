"""The anomalies of the last hours or days: verdicts on risk, reuse, races, refusals and automatic revocations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from starlette.responses import Response

from token_service.core.reports.recent_anomalies import (
    MAX_LISTED,
    MAX_REVOCATIONS,
    SPANS,
    Numbers,
    RecentAnomalies,
)
from token_service.core.reports.trail.anomalies import evidence_of
from token_service.core.reports.trail.collector import fields_of, number_in, text_in
from token_service.errors import DeadlineExceededError
from token_service.web.console.page import Page
from token_service.web.console.pages.audit_rows import ShownEvent
from token_service.web.console.visit import Visit

READ_WITHIN: Final = 15.0
"""Seconds to read the events. Shorter than the deadline of a request, so that the page can say what to do instead."""
_DEFAULT: Final = "day"

T = TypeVar("T")


class AnomaliesPage:
    """Shows what the service found unusual, with links to the session, the subject and the event."""

    def __init__(self, anomalies: RecentAnomalies, read_within: float = READ_WITHIN) -> None:
        """`read_within`: seconds to read the events."""
        self._anomalies = anomalies
        self._read_within = read_within

    def page(self) -> Page:
        """Return the page."""
        return Page(path="anomalies", title="Anomalies", show=self.show, parts={"times.json": self.times})

    async def show(self, visit: Visit) -> Response:
        """Return the anomalies of a span before now."""
        span = visit.query.get("span") or _DEFAULT
        recent = await self._within(self._anomalies.get(visit.caller, span, visit.now))
        return visit.page(
            "anomalies.html",
            span=span,
            spans=SPANS,
            verdicts=[ShownVerdict(row) for row in recent.verdicts],
            uses=[ShownEvent(row) for row in recent.uses],
            refusals=[ShownEvent(row) for row in recent.refusals],
            revocations=[(ShownEvent(row), text_in(fields_of(row), "cause")) for row in recent.revocations],
            causes=recent.causes,
            intervals=_intervals(recent.numbers),
            totals=[(name, sum(numbers)) for name, numbers in recent.numbers.series.items()],
            max_listed=MAX_LISTED,
            max_revocations=MAX_REVOCATIONS,
        )

    async def times(self, visit: Visit) -> Response:
        """Return the numbers of events over time, for the chart."""
        span = visit.query.get("span") or _DEFAULT
        numbers = await self._within(self._anomalies.numbers(visit.caller, span, visit.now))
        series = [{"label": name, "values": values} for name, values in numbers.series.items()]
        return visit.json({"unit": "", "times": numbers.times, "series": series})

    async def _within(self, reading: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._read_within):
                return await reading
        except TimeoutError:
            raise DeadlineExceededError(
                f"the events can't be read within {self._read_within:.0f} seconds; choose a shorter span, or run "
                "`token-service report anomalies`"
            ) from None


def _intervals(numbers: Numbers) -> Sequence[tuple[int, Sequence[int]]]:
    """Return the intervals that have events with their numbers, the newest first."""
    rows = zip(numbers.times, zip(*numbers.series.values(), strict=True), strict=True)
    return [(time, row) for time, row in rows if any(row)][::-1]


class ShownVerdict(ShownEvent):
    """A verdict on risk with its evidence."""

    @property
    def score(self) -> int:
        """The score, from 0 to 100."""
        return number_in(fields_of(self.row), "score")

    @property
    def action(self) -> str:
        """The action that the verdict asked for, such as `revoke_session`."""
        return text_in(fields_of(self.row), "action")

    @property
    def is_dry_run(self) -> bool:
        """Whether the service only noted the verdict."""
        return fields_of(self.row).get("dry_run") is True

    @property
    def country(self) -> str:
        """The country; empty if it is not known."""
        return text_in(fields_of(self.row), "country")

    @property
    def evidence(self) -> list[tuple[str, int, str]]:
        """The signals with their weights and details."""
        return list(evidence_of(fields_of(self.row)))
