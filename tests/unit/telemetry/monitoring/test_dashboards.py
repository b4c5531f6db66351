"""Dashboards: every metric is shown, and the documents are what Grafana expects."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from token_service.telemetry.metric import Metric
from token_service.telemetry.monitoring.dashboards import DASHBOARDS
from token_service.telemetry.monitoring.grafana import COLUMNS, document
from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, Target, View
from token_service.telemetry.registry import REGISTRY

QUERIES = [query for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries]
OVER_ALL = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)


@pytest.mark.parametrize("metric", REGISTRY, ids=lambda metric: metric.name)
def test_every_metric_is_in_a_panel(metric: Metric) -> None:
    pattern = re.compile(rf"\b{metric.family}(_total|_count|_bucket)?\{{")
    assert any(pattern.search(query) for query in QUERIES)


@OVER_ALL
def test_panels_describe_themselves_and_fill_their_rows(dashboard: Dashboard) -> None:
    titles = [panel.title for panel in dashboard.panels]
    assert len(set(titles)) == len(titles)
    assert all(panel.text.endswith(".") for panel in dashboard.panels)
    assert all(
        target.legend for panel in dashboard.panels if len(panel.targets) > 1 for target in panel.targets
    )
    for row in dashboard.rows:
        assert sum(panel.width for panel in row.panels) % COLUMNS == 0, row.title


@OVER_ALL
def test_document_keeps_the_rules_of_grafana(dashboard: Dashboard) -> None:
    made = json.loads(document(dashboard))
    assert made["schemaVersion"] == 39
    assert re.fullmatch(r"[a-z-]{1,40}", made["uid"])
    panels = made["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    assert not any(_overlap(one["gridPos"], other["gridPos"]) for one, other in combinations(panels, 2))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in panels)
    assert {panel["type"] for panel in panels} <= {"row", "timeseries", "stat", "heatmap"}
    for panel in panels:
        if panel["type"] == "row":
            continue
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values)


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh")
    )


@OVER_ALL
def test_variables_select_source_service_and_nodes(dashboard: Dashboard) -> None:
    made = json.loads(document(dashboard))
    variables = {each["name"]: each for each in made["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "instance"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["instance"]["definition"] == 'label_values(token_service_workers{job=~"$job"}, instance)'
    (link,) = made["links"]
    assert (link["type"], link["tags"], link["includeVars"]) == ("dashboards", made["tags"], True)
    for query in (target["expr"] for panel in made["panels"] for target in panel.get("targets", ())):
        assert 'job=~"$job",instance=~"$instance"' in query
        assert "@{" not in query


def test_uids_and_titles_differ() -> None:
    made = [json.loads(document(dashboard)) for dashboard in DASHBOARDS]
    assert len({each["uid"] for each in made}) == len({each["title"] for each in made}) == len(made) == 4


@pytest.mark.parametrize(
    ("warning", "critical", "steps"),
    [
        (None, None, [("green", None)]),
        (1, 2, [("green", None), ("orange", 1), ("red", 2)]),
        (None, 2, [("green", None), ("red", 2)]),
        (30, 7, [("red", None), ("orange", 7), ("green", 30)]),
    ],
)
def test_thresholds_color_the_bad_side(warning: float | None, critical: float | None, steps: Any) -> None:
    panel = Panel(
        title="x", text="X.", targets=[Target("x")], warning=warning, critical=critical, view=View.NUMBER
    )
    made = json.loads(document(Dashboard(name="x", title="x", text="X.", rows=[Row("x", [panel])])))
    found = made["panels"][1]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["color"], step["value"]) for step in found] == steps


@pytest.mark.parametrize(
    ("title", "value", "color"),
    [
        ("All ready", 0, "red"),
        ("All ready", 1, "green"),
        ("Next key rotation", 3600, "green"),
        ("Next key rotation", -60, "orange"),
        ("Next key rotation", -7200, "red"),
        ("Failed requests", 0, "green"),
        ("Failed requests", 0.02, "red"),
        ("Most stale subscriber", 11, "red"),
    ],
)
def test_numbers_of_the_overview_have_the_color_of_their_state(title: str, value: float, color: str) -> None:
    (overview,) = (each for each in DASHBOARDS if each.name == "overview")
    (panel,) = (each for each in json.loads(document(overview))["panels"] if each["title"] == title)
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or step["value"] <= value]
    assert reached[-1] == color


@OVER_ALL
def test_legends_name_labels_of_their_queries(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        for target in panel.targets:
            aggregated = re.findall(r"\bby \(([^)]*)\)", target.query)
            named = set(re.findall(r"\{\{(\w+)\}\}", target.legend))
            if aggregated:
                assert named <= set(aggregated[0].split(", ")), panel.title
            elif named:
                shown = [metric for metric in REGISTRY if f"{metric.family}{{" in target.query]
                labels = {label.replace(".", "_") for metric in shown for label in metric.labels}
                assert named <= {*labels, "instance"}, panel.title
