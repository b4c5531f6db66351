"""How fast revocations reach the validators of all nodes."""

from __future__ import annotations

from starlette.responses import Response

from token_service.core.reports.cluster.overview import ClusterOverview
from token_service.web.console.page import Page
from token_service.web.console.visit import Visit


class PropagationPage:
    """Shows the times from revocations to the last confirmation, and how fresh each node is."""

    def __init__(self, overview: ClusterOverview) -> None:
        self._overview = overview

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="propagation",
            title="Propagation",
            show=self.show,
            parts={"state": self.state, "times.json": self.times},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the page."""
        return visit.page("propagation.html", overview=await self._overview.get(visit.caller))

    async def state(self, visit: Visit) -> Response:
        """Return the part that changes."""
        return visit.part("propagation_state.html", overview=await self._overview.get(visit.caller))

    async def times(self, visit: Visit) -> Response:
        """Return the times of the last revocations for the chart."""
        reached = (await self._overview.get(visit.caller)).propagation.reached
        times: list[float] = []
        for each in reached:  # a chart needs ascending times, and the revocations of one commit have the same
            times.append(max(each.revoke_time, times[-1] + 0.001) if times else each.revoke_time)
        values = [each.seconds for each in reached]
        return visit.json(
            {"unit": "s", "times": times, "series": [{"label": "to the last validator", "values": values}]}
        )
