"""The page of metrics of a node: on the HTTP address, or on an address of its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext

from starlette.routing import Route

from token_service import __version__
from token_service.config import Address, MetricsPlace, Settings
from token_service.telemetry.board import Board, MetricsShare
from token_service.telemetry.page import Page, Values
from token_service.telemetry.registry import REGISTRY, WORKERS
from token_service.web.edge import HttpEdge
from token_service.web.metrics import make_metrics_app, metrics_route
from token_service.web.server import HttpServer


def share_of(settings: Settings, share: MetricsShare | None) -> MetricsShare | None:
    """Return the part of this process in the page; None if nothing shows it. A node without other workers makes its own."""
    if not settings.shows_metrics:
        return None
    return share or MetricsShare(Board(), 0)


class MetricsPage:
    """The page of a node, at the place that the settings name."""

    def __init__(self, settings: Settings, share: MetricsShare | None, update: Callable[[], None]) -> None:
        """`update` reads the gauges of this process."""
        self._place = settings.metrics_place
        self._settings = settings
        self._update = update
        self._page = None if share is None else Page(share.board, REGISTRY, _resource(), WORKERS)

    def routes(self, edge: HttpEdge) -> list[Route]:
        """Return the routes for the HTTP address."""
        if self._page is None or self._place is not MetricsPlace.HTTP:
            return []
        return [metrics_route(edge, self._page, self._update)]

    def values(self, names: Collection[str]) -> Mapping[str, Values]:
        """Return the present values of some metrics; none if they are not kept."""
        if self._page is None:
            return {}
        self._update()
        return self._page.values(names)

    def server(self) -> AbstractAsyncContextManager[object]:
        """Return the server of an address of its own, if there is one."""
        place = self._place
        if self._page is None or not isinstance(place, Address):
            return nullcontext()
        app = make_metrics_app(HttpEdge(), self._page, self._update)
        return HttpServer(
            place.host,
            place.port,
            app,
            reuse_port=self._settings.reuse_port,
            grace=1.0,
            setting="METRICS_ADDRESS",
        )


def _resource() -> dict[str, str]:
    """Return the attributes of the service, by the conventions of OpenTelemetry."""
    name = os.environ.get("OTEL_SERVICE_NAME") or "token-service"
    return {"service.name": name, "service.version": __version__, "host.name": socket.gethostname()}
