"""The metrics of a process: instruments that count for the page of metrics, for OpenTelemetry, or for both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from math import nan
from typing import Final, Protocol

from token_service.telemetry.board import Segment, Writer
from token_service.telemetry.metric import Kind, Metric
from token_service.telemetry.otel import Otel, open_otel
from token_service.telemetry.registry import REGISTRY

Values = float | Mapping[tuple[str, ...], float] | None
"""The value of a gauge, or its values by their labels; None: it has none now."""

_GAUGES: Final = frozenset(each.name for each in REGISTRY if each.kind is Kind.GAUGE)


class Counter(Protocol):
    """A metric that counts."""

    def add(self, amount: float, *labels: str) -> None:
        """Add to the count. `labels` are the values of the labels, in the order of the registry."""
        ...


class Histogram(Protocol):
    """A metric that records measurements."""

    def record(self, amount: float, *labels: str) -> None:
        """Add one measurement. For `labels` see `Counter.add`."""
        ...


class Metrics:
    """The metrics of a process. Belongs to one event loop.

    They are off without a page and without OpenTelemetry. Then the methods return None, so that nothing is measured.
    """

    def __init__(self, environ: Mapping[str, str], instance: str, segment: Segment | None = None) -> None:
        """Set up OpenTelemetry if `environ` asks for it. `segment`: the memory of this worker on the page.

        `instance` distinguishes the processes of a service that report to one place. Raises `ConfigurationError`.
        """
        self._otel: Otel | None = open_otel(environ, instance)
        self._writer = None if segment is None else Writer(segment, _GAUGES.__contains__)
        self._gauges: list[_Gauge] = []
        self.made: list[str] = []
        """The names of the metrics that have an instrument."""

    @property
    def is_on(self) -> bool:
        """Whether anything is measured."""
        return self._otel is not None or self._writer is not None

    def counter(self, metric: Metric) -> Counter | None:
        """Return the counter of a metric, or None if metrics are off."""
        self.made.append(metric.name)
        page = None if self._writer is None else _PageCounter(self._writer, metric)
        otel = None if self._otel is None else self._otel.counter(metric)
        return _BothCounters(page, otel) if page is not None and otel is not None else page or otel

    def histogram(self, metric: Metric) -> Histogram | None:
        """Return the histogram of a metric, or None if metrics are off."""
        self.made.append(metric.name)
        page = None if self._writer is None else _PageHistogram(self._writer, metric)
        otel = None if self._otel is None else self._otel.histogram(metric)
        return _BothHistograms(page, otel) if page is not None and otel is not None else page or otel

    def gauge(self, metric: Metric, read: Callable[[], Values]) -> None:
        """Register a gauge, whose value `read` returns at each `update`."""
        self.made.append(metric.name)
        if not self.is_on:
            return
        gauge = _Gauge(metric, read, self._writer)
        self._gauges.append(gauge)
        if self._otel is not None:
            self._otel.gauge(metric, lambda: gauge.values)

    def update(self) -> None:
        """Read the gauges. The page and the exporters show the values of the last update."""
        for gauge in self._gauges:
            gauge.update()
        if self._writer is not None:
            self._writer.segment.beat()

    def known(self, metric: Metric, label: str) -> list[str]:
        """Return the values of a label that the page has already."""
        if self._writer is None:
            return []
        index = list(metric.labels).index(label)
        return list(dict.fromkeys(labels[index] for labels in self._writer.labels(metric.name)))

    def close(self) -> None:
        """Take the gauges of this process from the page, and export the last metrics. See `Otel.close`."""
        if self._writer is not None:
            self._writer.segment.leave()
        if self._otel is not None:
            self._otel.close()


class _PageCounter:
    def __init__(self, writer: Writer, metric: Metric) -> None:
        self._writer = writer
        self._name = metric.name
        self._numbers = writer.segment.numbers
        self._places: dict[tuple[str, ...], int] = {}
        for labels in metric.zeros if metric.labels else ((),):
            self.add(0, *labels)  # an alert on growth needs the zero before the first event

    def add(self, amount: float, *labels: str) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = self._writer.place(self._name, labels, 1)
        self._numbers[place] += amount


class _PageHistogram:
    def __init__(self, writer: Writer, metric: Metric) -> None:
        self._writer = writer
        self._metric = metric
        self._numbers = writer.segment.numbers
        self._buckets = metric.buckets
        self._places: dict[tuple[str, ...], int] = {
            labels: writer.place(metric.name, labels, metric.size) for labels in metric.zeros
        }

    def record(self, amount: float, *labels: str) -> None:
        place = self._places.get(labels)
        if place is None:
            place = self._places[labels] = self._writer.place(self._metric.name, labels, self._metric.size)
        numbers = self._numbers
        numbers[place + 1 + bisect_left(self._buckets, amount)] += 1.0
        numbers[place] += amount


class _BothCounters:
    def __init__(self, *counters: Counter) -> None:
        self._counters = counters

    def add(self, amount: float, *labels: str) -> None:
        for each in self._counters:
            each.add(amount, *labels)


class _BothHistograms:
    def __init__(self, *histograms: Histogram) -> None:
        self._histograms = histograms

    def record(self, amount: float, *labels: str) -> None:
        for each in self._histograms:
            each.record(amount, *labels)


class _Gauge:
    def __init__(self, metric: Metric, read: Callable[[], Values], writer: Writer | None) -> None:
        self._metric = metric
        self._read = read
        self._writer = writer
        self._shown: set[tuple[str, ...]] = set()
        self.values: Iterable[tuple[tuple[str, ...], float]] = ()
        """The values of the last update. Replaced as a whole: another thread reads them."""

    def update(self) -> None:
        read = self._read()
        values = {} if read is None else dict(read) if isinstance(read, Mapping) else {(): read}
        self.values = tuple(values.items())
        if self._writer is None:
            return
        numbers = self._writer.segment.numbers
        for labels in self._shown - values.keys():
            numbers[self._writer.place(self._metric.name, labels, 1)] = nan
        for labels, value in values.items():
            numbers[self._writer.place(self._metric.name, labels, 1)] = value
        self._shown = set(values)
