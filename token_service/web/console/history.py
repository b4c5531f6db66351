"""The charts of the overview: values of metrics of this node, in a ring in memory.

A node samples its own metrics, those of all its workers. So the charts need no database, and a restart empties them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

from token_service.clock import Clock
from token_service.telemetry import registry
from token_service.telemetry.metric import Combine, Kind, Metric

INTERVAL: Final = 5.0
"""Seconds between two samples."""
SAMPLES: Final = 361
"""Samples of a node: 30 minutes."""
_MINUTE: Final = 60.0

Values = Mapping[str, Mapping[tuple[str, ...], Sequence[float]]]
"""The numbers of metrics by name and labels."""
Row = tuple[float, tuple[float | None, ...]]
"""A time, and one value for each line of a chart."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart: the series of a metric whose first label is `label`, or all of them."""

    title: str
    metric: Metric
    label: str = ""

    def read(self, values: Values) -> float | None:
        """Return the sum or, if its metric says so, the highest of the series. None: a gauge has no value yet."""
        found = [
            numbers[0]
            for labels, numbers in values.get(self.metric.name, {}).items()
            if not self.label or labels[0] == self.label
        ]
        if not found:
            return 0.0 if self.metric.kind is Kind.COUNTER else None
        value = max(found) if self.metric.combine is Combine.MAX else sum(found)
        return value if isfinite(value) else None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. Counters become rates."""

    name: str
    title: str
    unit: str
    """`/s`, `s`, or empty for a number."""
    lines: tuple[Line, ...]


CHARTS: Final = (
    Chart(
        "tokens",
        "Tokens",
        "/s",
        (
            Line("issued", registry.TOKENS, "issued"),
            Line("refreshed", registry.TOKENS, "refreshed"),
            Line("exchanged", registry.TOKENS, "exchanged"),
        ),
    ),
    Chart(
        "validations",
        "Validations",
        "/s",
        (
            Line("by validators", registry.VALIDATED),
            Line("by this service", registry.VALIDATIONS),
            Line("refused by validators", registry.VALIDATOR_REFUSALS),
        ),
    ),
    Chart("revocations", "Revocations", "/s", (Line("revoked", registry.REVOKED),)),
    Chart(
        "staleness",
        "Oldest unconfirmed revocation",
        "s",
        (
            Line("worst validator", registry.SUBSCRIBER_STALENESS, "max"),
            Line("99 % of the validators", registry.SUBSCRIBER_STALENESS, "p99"),
        ),
    ),
    Chart(
        "validators",
        "Validators",
        "",
        (
            Line("connected", registry.SUBSCRIBERS),
            Line("behind", registry.SUBSCRIBERS_BEHIND),
            Line("silent", registry.SUBSCRIBERS_SILENT),
        ),
    ),
    Chart(
        "refusals",
        "Refused calls",
        "/s",
        (Line("gRPC", registry.REFUSALS, "grpc"), Line("HTTP", registry.REFUSALS, "http")),
    ),
)
"""The charts in their order."""
METRICS: Final = frozenset(line.metric.name for chart in CHARTS for line in chart.lines)
"""The names of the metrics that the charts need."""


class History:
    """The last samples of a node."""

    def __init__(self, read: Callable[[], Values], clock: Clock, node: str) -> None:
        """`read` returns the present values of `METRICS`; `node` is the name of this node."""
        self.node: Final = node
        self._read = read
        self._clock = clock
        self._samples: deque[tuple[float, Mapping[str, tuple[float | None, ...]]]] = deque(maxlen=SAMPLES)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(INTERVAL)

    def sample(self) -> None:
        """Add the present values."""
        values = self._read()
        self._samples.append(
            (
                self._clock.now(),
                {chart.name: tuple(line.read(values) for line in chart.lines) for chart in CHARTS},
            )
        )

    def data(self, chart: Chart) -> Mapping[str, Any]:
        """Return what console.js draws."""
        rows = list(self._rows(chart))
        columns = list(zip(*(values for _, values in rows), strict=True)) or [() for _ in chart.lines]
        return {
            "unit": chart.unit,
            "source": self.node,
            "times": [round(time, 1) for time, _ in rows],
            "series": [
                {
                    "label": line.title,
                    "values": [None if value is None else round(value, 4) for value in column],
                }
                for line, column in zip(chart.lines, columns, strict=True)
            ],
        }

    def minutes(self, chart: Chart) -> Sequence[Row]:
        """Return the averages of each minute, the latest first."""
        by_minute: dict[float, list[tuple[float | None, ...]]] = {}
        for time, values in self._rows(chart):
            by_minute.setdefault(time // _MINUTE * _MINUTE, []).append(values)
        return [
            (minute, tuple(map(_average, zip(*rows, strict=True))))
            for minute, rows in reversed(by_minute.items())
        ]

    def _rows(self, chart: Chart) -> Iterator[Row]:
        before: tuple[float, tuple[float | None, ...]] | None = None
        for time, sample in self._samples:
            values = sample[chart.name]
            if before is not None:
                elapsed = time - before[0]
                yield (
                    time,
                    tuple(
                        _rate(old, new, elapsed) if line.metric.kind is Kind.COUNTER else new
                        for line, old, new in zip(chart.lines, before[1], values, strict=True)
                    ),
                )
            before = time, values


def _rate(old: float | None, new: float | None, elapsed: float) -> float | None:
    """Return the rate of a counter; None if it began again, or if the clock did not move on."""
    if old is None or new is None or new < old or elapsed <= 0:
        return None
    return (new - old) / elapsed


def _average(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
