"""The dashboards, one a module."""

from __future__ import annotations

from typing import Final

from token_service.telemetry.monitoring.dashboards.database import DATABASE
from token_service.telemetry.monitoring.dashboards.keys import KEYS
from token_service.telemetry.monitoring.dashboards.overview import OVERVIEW
from token_service.telemetry.monitoring.dashboards.propagation import PROPAGATION

DASHBOARDS: Final = (OVERVIEW, PROPAGATION, KEYS, DATABASE)
