"""The alerts, one subject a module."""

from __future__ import annotations

from token_service.telemetry.monitoring.alerts import (
    background,
    budget,
    database,
    keys,
    nodes,
    revocations,
    traffic,
)
from token_service.telemetry.monitoring.alerts.alert import Group
from token_service.telemetry.monitoring.site import Site


def groups(site: Site) -> list[Group]:
    """Return all alerts for a site."""
    return [
        Group("objectives", budget.alerts(site)),
        Group("nodes", nodes.alerts()),
        Group("revocations", revocations.alerts(site)),
        Group("keys", keys.alerts()),
        Group("database", database.alerts(site)),
        Group("background", background.alerts(site)),
        Group("traffic", traffic.alerts()),
    ]
