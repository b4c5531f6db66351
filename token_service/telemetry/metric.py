"""The description of a metric, and its name in each format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

DURATIONS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds, from a response from memory to one that waited for the database."""

_UNITS: Final = {"s": "seconds", "By": "bytes"}
"""Words of the units that names of Prometheus end with. Other units, such as `{call}`, only count."""


class Kind(Enum):
    """What the values of a metric mean."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


class Combine(Enum):
    """How the gauges of several workers become one value."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One row of the registry."""

    name: str
    kind: Kind
    unit: str
    """In UCUM, as OpenTelemetry writes it."""
    text: str
    """One sentence, for people."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The attributes, in the order of their values, and what bounds the number of their values."""
    constant: Mapping[str, str] = field(default_factory=dict)
    """Attributes with one value, which only OpenTelemetry gets."""
    combine: Combine = Combine.SUM
    buckets: tuple[float, ...] = DURATIONS
    """Upper bounds of a histogram."""
    alert: str = ""
    """When an operator should look."""
    needs: str = ""
    """What a node must have or do before the metric has a value; empty: nothing."""
    zeros: tuple[tuple[str, ...], ...] = ()
    """Values of the labels of series that the page shows as 0 before the first event. An alert on growth needs them."""

    @property
    def family(self) -> str:
        """The name in the formats of Prometheus, without the suffix of a sample."""
        name = self.name.replace(".", "_")
        unit = _UNITS.get(self.unit, "")
        return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"

    @property
    def unit_word(self) -> str:
        """The unit in OpenMetrics; empty for a number of things."""
        return _UNITS.get(self.unit, "")

    @property
    def size(self) -> int:
        """The number of values of one series: a sum and a count for each bucket of a histogram, or one value."""
        return len(self.buckets) + 2 if self.kind is Kind.HISTOGRAM else 1
