"""The registry as a table in Markdown, for docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from token_service.telemetry.metric import Kind, Metric

_HEAD = (
    "| metric | on the page | kind | unit | what it says | labels | worth an alert |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def table(registry: Sequence[Metric]) -> str:
    """Return the table of all metrics, one in a row."""
    return "\n".join((*_HEAD, *map(_row, registry))) + "\n"


def _row(metric: Metric) -> str:
    on_page = f"{metric.family}_total" if metric.kind is Kind.COUNTER else metric.family
    text = metric.text if not metric.needs else f"{metric.text} Needs: {metric.needs}."
    kind = f"{metric.kind.value}, {metric.combine.value}" if metric.kind is Kind.GAUGE else metric.kind.value
    cells = (
        f"`{metric.name}`",
        f"`{on_page}`",
        kind,
        f"`{metric.unit}`",
        text,
        "; ".join(_labels(metric)) or "-",
        metric.alert or "-",
    )
    return f"| {' | '.join(cells)} |"


def _labels(metric: Metric) -> Iterator[str]:
    for name, bound in metric.labels.items():
        yield f"`{name}`: {bound}"
