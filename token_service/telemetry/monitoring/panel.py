"""The description of a dashboard, without the format of Grafana."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from token_service.telemetry.monitoring.query import fill


class View(Enum):
    """How a panel shows its queries."""

    LINES = "timeseries"
    NUMBER = "stat"
    HEAT = "heatmap"


class Unit(Enum):
    """The units of Grafana that panels use."""

    SECONDS = "s"
    PER_SECOND = "ops"
    COUNT = "short"
    SHARE = "percentunit"
    YES_NO = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Target:
    """One query of a panel, and the legend of its series."""

    query: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel of a dashboard."""

    title: str
    text: str
    """The description that Grafana shows at the title."""
    targets: Sequence[Target]
    unit: Unit = Unit.COUNT
    view: View = View.LINES
    width: int = 8
    """Of 24 columns."""
    warning: float | None = None
    """The value that is colored orange."""
    critical: float | None = None
    """The value that is colored red. Below `warning`, low values are the bad ones."""
    is_stacked: bool = False
    most: float | None = None
    """The upper end of the axis."""

    @property
    def queries(self) -> list[str]:
        """The queries as Grafana gets them."""
        return [fill(target.query, DASHBOARD_SCOPE) for target in self.targets]


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below a common heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One dashboard. `name` is the name of its file and the end of its uid."""

    name: str
    title: str
    text: str
    rows: Sequence[Row] = field(default_factory=tuple)

    @property
    def panels(self) -> list[Panel]:
        """All panels."""
        return [panel for row in self.rows for panel in row.panels]


DASHBOARD_SCOPE = 'job=~"$job",instance=~"$instance"'
"""The matchers that select the service in a dashboard."""
