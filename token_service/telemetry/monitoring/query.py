"""Queries in PromQL about metrics of the registry.

A query names its metric and its labels by the registry, and its form follows the kind of the metric: a counter has a
rate, a histogram has quantiles, and a gauge is combined as the registry says. A query has marks for what the place of use
decides: `SCOPE` stands for the matchers that select the service, and `span` for a time in a rule. `fill` replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from token_service.telemetry.metric import Combine, Kind, Metric

SCOPE: Final = "@{scope}"
"""The mark for the matchers that select the service."""
JOB: Final = "job"
INSTANCE: Final = "instance"
RATE: Final = "$__rate_interval"
"""The window that Grafana chooses for a rate."""

_SPAN: Final = re.compile(r"@\{(\d+)\}")
_OF_SCRAPES: Final = frozenset({JOB, INSTANCE})
"""Labels that Prometheus adds."""
_OPERATOR: Final = re.compile(r"(=~|!~|!=|)(.*)", re.DOTALL)
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))

Where = Mapping[str, str]
"""Values by the names of labels in the registry. A value may begin with `=~`, `!~` or `!=`."""


def span(seconds: int) -> str:
    """Return the mark for a time in a rule."""
    return f"@{{{seconds}}}"


def fill(query: str, scope: str, pace: float = 1) -> str:
    """Replace the marks of a query. `pace`: the factor by which its times are shorter."""
    return _SPAN.sub(lambda found: duration(float(found[1]) / pace), query.replace(SCOPE, scope))


def duration(seconds: float) -> str:
    """Return a time as Prometheus writes it; at least one second."""
    whole = max(1, round(seconds))
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{whole // size}{unit}"


def label_name(metric: Metric, label: str) -> str:
    """Return the name of a label in Prometheus. Raises `ValueError` if the metric has no such label."""
    if label not in metric.labels and label not in _OF_SCRAPES:
        raise ValueError(f"{metric.name} has no label {label}")
    return label.replace(".", "_")


def series(metric: Metric, where: Where | None = None, *, sample: str = "", le: str = "") -> str:
    """Return a selector. `sample`: the suffix of the samples of a histogram; `le`: one bucket."""
    suffix = "_total" if metric.kind is Kind.COUNTER else sample
    matchers = [SCOPE, *(_matcher(label_name(metric, name), value) for name, value in (where or {}).items())]
    if le:
        matchers.append(f'le="{le}"')
    return f"{metric.family}{suffix}{{{','.join(matchers)}}}"


def _matcher(name: str, value: str) -> str:
    found = _OPERATOR.match(value)
    assert found is not None
    return f'{name}{found[1] or "="}"{found[2]}"'


def gauge(metric: Metric, by: Sequence[str] = (), where: Where | None = None, *, before: str = "") -> str:
    """Return a gauge, combined over nodes as the registry combines it over workers. `before`: how long ago."""
    _require(metric, {Kind.GAUGE})
    combine = {Combine.SUM: "sum", Combine.MAX: "max", Combine.MIN: "min"}[metric.combine]
    selected = series(metric, where) + (f" offset {before}" if before else "")
    return aggregate(combine, selected, _names(metric, by))


def each(metric: Metric, where: Where | None = None) -> str:
    """Return the gauge of each node."""
    _require(metric, {Kind.GAUGE})
    return series(metric, where)


def rate(metric: Metric, window: str = RATE, by: Sequence[str] = (), where: Where | None = None) -> str:
    """Return the events of a counter, or the measurements of a histogram, in a second."""
    _require(metric, {Kind.COUNTER, Kind.HISTOGRAM})
    return aggregate("sum", rates(metric, window, where), _names(metric, by))


def increase(metric: Metric, window: str, by: Sequence[str] = (), where: Where | None = None) -> str:
    """Return the events of a counter, or the measurements of a histogram, in a window."""
    _require(metric, {Kind.COUNTER, Kind.HISTOGRAM})
    return aggregate(
        "sum", f"increase({series(metric, where, sample='_count')}[{window}])", _names(metric, by)
    )


def quantile(
    share: float, metric: Metric, window: str = RATE, by: Sequence[str] = (), where: Where | None = None
) -> str:
    """Return a quantile of a histogram."""
    _require(metric, {Kind.HISTOGRAM})
    buckets = f"rate({series(metric, where, sample='_bucket')}[{window}])"
    return f"histogram_quantile({share}, {aggregate('sum', buckets, ['le', *_names(metric, by)])})"


def buckets(metric: Metric, window: str = RATE, where: Where | None = None) -> str:
    """Return the measurements in each bucket of a histogram, for a heat map."""
    _require(metric, {Kind.HISTOGRAM})
    return aggregate("sum", f"increase({series(metric, where, sample='_bucket')}[{window}])", ["le"])


def rates(metric: Metric, window: str, where: Where | None = None) -> str:
    """Return the events or measurements of each series in a second."""
    _require(metric, {Kind.COUNTER, Kind.HISTOGRAM})
    return f"rate({series(metric, where, sample='_count')}[{window}])"


def rates_within(metric: Metric, bound: float, window: str, where: Where | None = None) -> str:
    """Return the measurements of at most `bound` in a second. Raises `ValueError` if no bucket ends there."""
    _require(metric, {Kind.HISTOGRAM})
    if bound not in metric.buckets:
        raise ValueError(f"{metric.name} has no bucket that ends at {bound}")
    return f"rate({series(metric, where, sample='_bucket', le=repr(float(bound)))}[{window}])"


def aggregate(function: str, query: str, names: Sequence[str] = ()) -> str:
    """Combine the series that have the same values of the named labels of Prometheus."""
    return f"{function} by ({', '.join(names)}) ({query})" if names else f"{function}({query})"


def or_zero(query: str) -> str:
    """Return 0 if a query finds no series, as for events that only trouble causes."""
    return f"{query} or on() vector(0)"


def _names(metric: Metric, labels: Sequence[str]) -> list[str]:
    return [label_name(metric, label) for label in labels]


def _require(metric: Metric, kinds: Collection[Kind]) -> None:
    if metric.kind not in kinds:
        raise ValueError(f"{metric.name} is a {metric.kind.value}")


UP: Final = f"up{{{SCOPE}}}"
"""1 for each node that answered the last scrape. Prometheus adds it."""
TARGET: Final = f"target_info{{{SCOPE}}}"
"""1 for each node, with its version. The page adds it."""
VERSION: Final = "service_version"
