"""The first page: the state of the whole service, and the charts of this node."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.keys.store import SigningKeyState
from token_service.core.reports.cluster.overview import ClusterOverview
from token_service.errors import InvalidRequestError
from token_service.web.console.history import CHARTS, Chart, History
from token_service.web.console.page import Page
from token_service.web.console.visit import Visit

_CHARTS: Final = {chart.name: chart for chart in CHARTS}
_KEYS: Final = {
    SigningKeyState.ACTIVE: "ok",
    SigningKeyState.PREPARED: "info",
    SigningKeyState.RETIRED: "muted",
    SigningKeyState.REVOKED: "critical",
}


class OverviewPage:
    """Shows the overview, and the live parts of it."""

    def __init__(self, overview: ClusterOverview, history: History) -> None:
        self._overview = overview
        self._history = history

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="",
            title="Overview",
            show=self.show,
            parts={
                "overview/state": self.state,
                "overview/chart": self.chart,
                "overview/values": self.values,
            },
        )

    async def show(self, visit: Visit) -> Response:
        """Return the page."""
        return visit.page(
            "overview.html",
            overview=await self._overview.get(visit.caller),
            key_kinds=_KEYS,
            charts=CHARTS,
            history=self._history,
        )

    async def state(self, visit: Visit) -> Response:
        """Return the part that changes."""
        overview = await self._overview.get(visit.caller)
        return visit.part("overview_state.html", overview=overview, key_kinds=_KEYS)

    async def chart(self, visit: Visit) -> Response:
        """Return the data of a chart."""
        return visit.json(self._history.data(_chart(visit)))

    async def values(self, visit: Visit) -> Response:
        """Return the values of a chart as a table."""
        chart = _chart(visit)
        return visit.page(
            "overview_values.html", chart=chart, rows=self._history.minutes(chart), history=self._history
        )


def _chart(visit: Visit) -> Chart:
    """Return the chart that a request names. The right is the one of the overview: charts show the same counts."""
    admit(visit.caller, UseCase.GET_OVERVIEW)
    chart = _CHARTS.get(visit.query.get("name"))
    if chart is None:
        raise InvalidRequestError.of("name", f"is none of {', '.join(_CHARTS)}")
    return chart
