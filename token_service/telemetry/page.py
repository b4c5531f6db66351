"""The page of metrics, in OpenMetrics 1.0 and in the text format of Prometheus 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import inf, isnan
from typing import Final

from token_service.telemetry.board import Board
from token_service.telemetry.metric import Combine, Kind, Metric

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"

_COMBINE: Final[Mapping[Combine, Callable[[Iterable[float]], float]]] = {
    Combine.SUM: sum,
    Combine.MAX: max,
    Combine.MIN: min,
}

Values = dict[tuple[str, ...], list[float]]


class Page:
    """The metrics of all workers, as text."""

    def __init__(
        self, board: Board, registry: Sequence[Metric], resource: Mapping[str, str], workers: Metric
    ) -> None:
        """`resource`: the attributes of the service; `workers`: the gauge that the page itself gives a value."""
        self._board = board
        self._metrics = {each.name: each for each in registry}
        self._resource = resource
        self._workers = workers

    def text(self, *, openmetrics: bool) -> str:
        """Return the page."""
        values = self._read()
        lines: list[str] = []
        lines += _target(self._resource, openmetrics=openmetrics)
        for metric in self._metrics.values():
            lines += _head(metric, openmetrics=openmetrics)
            for labels, numbers in sorted(values.get(metric.name, {}).items()):
                lines += _samples(metric, labels, numbers)
        if openmetrics:
            lines.append("# EOF")
        return "\n".join(lines) + "\n"

    def values(self, names: Collection[str]) -> dict[str, Values]:
        """Return the present values of some metrics, by name and labels. Metrics without a value are left out."""
        found: dict[str, dict[tuple[str, ...], list[Sequence[float]]]] = {}
        for segment, series, numbers in self._board.read():
            metric = self._metrics.get(series.name)
            if metric is None or metric.size != series.size or series.name not in names:
                continue
            if metric.kind is Kind.GAUGE and (isnan(numbers[0]) or not segment.is_alive):
                continue
            found.setdefault(series.name, {}).setdefault(series.labels, []).append(numbers)
        return {
            name: {labels: _combined(self._metrics[name], each) for labels, each in of_name.items()}
            for name, of_name in found.items()
        }

    def _read(self) -> dict[str, Values]:
        result = self.values(self._metrics)
        result[self._workers.name] = {(): [float(sum(each.is_alive for each in self._board.segments))]}
        return result


def _combined(metric: Metric, of_workers: Sequence[Sequence[float]]) -> list[float]:
    combine = _COMBINE[metric.combine if metric.kind is Kind.GAUGE else Combine.SUM]
    return [float(combine(numbers)) for numbers in zip(*of_workers, strict=True)]


def _head(metric: Metric, *, openmetrics: bool) -> Iterator[str]:
    name = metric.family
    help_text = metric.text.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        yield f"# TYPE {name} {metric.kind.value}"
        if metric.unit_word:
            yield f"# UNIT {name} {metric.unit_word}"
        yield f"# HELP {name} {help_text.replace(chr(34), chr(92) + chr(34))}"
    else:
        name = f"{name}_total" if metric.kind is Kind.COUNTER else name
        yield f"# HELP {name} {help_text}"
        yield f"# TYPE {name} {metric.kind.value}"


def _samples(metric: Metric, labels: tuple[str, ...], numbers: list[float]) -> Iterator[str]:
    pairs = list(zip(map(_label_name, metric.labels), labels, strict=True))
    if metric.kind is Kind.COUNTER:
        yield f"{metric.family}_total{_labels(pairs)} {_number(numbers[0])}"
    elif metric.kind is Kind.GAUGE:
        yield f"{metric.family}{_labels(pairs)} {_number(numbers[0])}"
    else:
        total, count = numbers[0], 0.0
        for bound, in_bucket in zip((*metric.buckets, inf), numbers[1:], strict=True):
            count += in_bucket
            yield f"{metric.family}_bucket{_labels([*pairs, ('le', _bound(bound))])} {_number(count)}"
        yield f"{metric.family}_sum{_labels(pairs)} {_number(total)}"
        yield f"{metric.family}_count{_labels(pairs)} {_number(count)}"


def _target(resource: Mapping[str, str], *, openmetrics: bool) -> Iterator[str]:
    labels = _labels((_label_name(name), value) for name, value in resource.items())
    yield f"# TYPE {'target' if openmetrics else 'target_info'} {'info' if openmetrics else 'gauge'}"
    yield f"# HELP {'target' if openmetrics else 'target_info'} The service."
    yield f"target_info{labels} 1"


def _label_name(name: str) -> str:
    return name.replace(".", "_")


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _bound(value: float) -> str:
    """Return a bound as OpenMetrics 1.0 writes it, whatever its type: `1.0`, not `1`."""
    return "+Inf" if value == inf else repr(float(value))


def _number(value: float) -> str:
    if value in {inf, -inf}:
        return "+Inf" if value > 0 else "-Inf"
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def prefers_openmetrics(accept: str) -> bool:
    """Tell whether an `Accept` header prefers OpenMetrics to the text format of Prometheus (RFC 9110, section 12.5.1)."""
    best = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        options = dict(each.partition("=")[::2] for each in parameters)
        if kind in best and options.get("version", "1.0.0") in {"1.0.0", "0.0.4"}:
            best[kind] = max(best[kind], _quality(options.get("q", "1")))
    return best["application/openmetrics-text"] > 0 and (
        best["application/openmetrics-text"] >= best["text/plain"]
    )


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0
