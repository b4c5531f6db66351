"""Dashboards in Grafana's format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, View
from token_service.telemetry.registry import WORKERS

SCHEMA: Final = 39
"""The schema of Grafana 11. Newer versions convert it when they load it."""
COLUMNS: Final = 24
_HEIGHTS: Final = {View.LINES: 8, View.NUMBER: 4, View.HEAT: 8}
_TAG: Final = "token-service"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def document(dashboard: Dashboard) -> str:
    """Return a dashboard as text in JSON."""
    return json.dumps(_dashboard(dashboard), indent=2) + "\n"


def _dashboard(dashboard: Dashboard) -> Mapping[str, Any]:
    return {
        "uid": f"token-service-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.text,
        "tags": [_TAG],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": list(_variables())},
        "links": [
            {
                "type": "dashboards",
                "title": "Token service",
                "tags": [_TAG],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
            }
        ],
        "annotations": {"list": []},
        "panels": list(_placed(dashboard)),
    }


def _variables() -> Iterator[Mapping[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }
    labels = {
        "job": f"label_values({WORKERS.family}, job)",
        "instance": f'label_values({WORKERS.family}{{job=~"$job"}}, instance)',
    }
    for name, query in labels.items():
        yield {
            "name": name,
            "label": {"job": "Service", "instance": "Node"}[name],
            "type": "query",
            "datasource": _SOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
            "hide": 0,
        }


def _placed(dashboard: Dashboard) -> Iterator[Mapping[str, Any]]:
    """Yield rows and panels with their places, from left to right and from top to bottom."""
    number, top = 0, 0
    for row in dashboard.rows:
        number += 1
        yield _heading(row, number, top)
        left, top, height = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, height = 0, top + height, 0
            number += 1
            place = {"h": _HEIGHTS[panel.view], "w": panel.width, "x": left, "y": top}
            yield _panel(panel, number, place)
            left, height = left + panel.width, max(height, place["h"])
        top += height


def _heading(row: Row, number: int, top: int) -> Mapping[str, Any]:
    return {
        "id": number,
        "type": "row",
        "title": row.title,
        "collapsed": False,
        "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
        "panels": [],
    }


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> Mapping[str, Any]:
    return {
        "id": number,
        "type": panel.view.value,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": list(_targets(panel)),
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.view],
    }


def _targets(panel: Panel) -> Iterator[Mapping[str, Any]]:
    for place, (target, query) in enumerate(zip(panel.targets, panel.queries, strict=True)):
        yield {
            "refId": chr(ord("A") + place),
            "datasource": _SOURCE,
            "editorMode": "code",
            "expr": query,
            "legendFormat": target.legend or "__auto",
            "range": panel.view is not View.NUMBER,
            "instant": panel.view is View.NUMBER,
            "format": "heatmap" if panel.view is View.HEAT else "time_series",
        }


def _defaults(panel: Panel) -> Mapping[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit.value,
        "color": {"mode": "thresholds" if panel.view is View.NUMBER else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": _steps(panel.warning, panel.critical)},
        "noValue": "none",
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.view is View.LINES:
        defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.is_stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
            "thresholdsStyle": {
                "mode": "off" if panel.warning is None and panel.critical is None else "dashed"
            },
        }
    return defaults


def _steps(warning: float | None, critical: float | None) -> list[Mapping[str, Any]]:
    bounds = [
        (color, value) for color, value in (("orange", warning), ("red", critical)) if value is not None
    ]
    if len(bounds) == 2 and bounds[1][1] < bounds[0][1]:  # low values are bad
        (_, first), (_, second) = bounds
        colors = [("red", None), ("orange", second), ("green", first)]
        return [{"color": color, "value": value} for color, value in colors]
    return [{"color": "green", "value": None}, *({"color": color, "value": value} for color, value in bounds)]


_OPTIONS: Final[Mapping[View, Mapping[str, Any]]] = {
    View.LINES: {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    View.NUMBER: {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    View.HEAT: {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": False},
    },
}
