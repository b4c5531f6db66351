"""The page of metrics over HTTP.

`GET /metrics`: the metrics of all workers, as OpenMetrics if the client prefers it, else in the text format of Prometheus.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from token_service.core.access.gate import UseCase
from token_service.telemetry.page import OPENMETRICS, PROMETHEUS, Page, prefers_openmetrics
from token_service.web.edge import UNCACHED, HttpEdge

PATH: Final = "/metrics"


def metrics_route(edge: HttpEdge, page: Page, update: Callable[[], None]) -> Route:
    """Return the route of the page. `update` brings the gauges of this process up to date."""

    async def metrics(request: Request) -> Response:
        update()
        openmetrics = prefers_openmetrics(request.headers.get("accept", ""))
        headers = {**UNCACHED, "Vary": "Accept"}
        text = page.text(openmetrics=openmetrics)
        return Response(text, headers=headers, media_type=OPENMETRICS if openmetrics else PROMETHEUS)

    return edge.route(PATH, UseCase.GET_METRICS, metrics, always=True)


def make_metrics_app(edge: HttpEdge, page: Page, update: Callable[[], None]) -> Router:
    """Return the application of an address for metrics only."""
    return Router([metrics_route(edge, page, update)], redirect_slashes=False)
