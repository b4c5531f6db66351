"""Alerts: names, texts, runbooks, and zeros of the counters whose growth they look for."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from token_service.cli import cli
from token_service.telemetry.monitoring.alerts import groups
from token_service.telemetry.monitoring.alerts.alert import Alert
from token_service.telemetry.monitoring.query import SCOPE
from token_service.telemetry.monitoring.site import Site
from token_service.telemetry.registry import REGISTRY

RUNBOOKS = Path(__file__).resolve().parents[4] / "docs" / "runbooks"
ALERTS = [alert for group in groups(Site()) for alert in group.alerts]
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
COMMANDS = {
    command
    for page in PAGES
    for command in re.findall(r"`token-service ([^`]+)`", " ".join(page.read_text().split()))
}


def test_names_differ() -> None:
    assert len({alert.full_name for alert in ALERTS}) == len(ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alert_says_what_happened_and_where_to_read_on(alert: Alert) -> None:
    assert re.fullmatch(r"[A-Z][^.{]+", alert.summary)
    assert "{{ $value" in alert.text
    assert alert.text.endswith(".")
    assert f"`{alert.full_name}` ({alert.severity.value})" in (RUNBOOKS / alert.runbook).read_text()
    index = (RUNBOOKS / "README.md").read_text()
    row = f"| [{alert.full_name}]({alert.runbook}) | {alert.severity.value} | {alert.summary} |"
    assert row in index
    assert SCOPE in alert.query or "token_service:requests_" in alert.query


def test_every_runbook_has_an_alert() -> None:
    assert {page.name for page in PAGES} == {alert.runbook for alert in ALERTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_runbook_has_all_parts(page: Path) -> None:
    parts = re.findall(r"^\*\*(.+?)\*\*", page.read_text(), re.MULTILINE)
    assert parts == ["Meaning.", "Affected.", "First look", "Causes", "What to do", "Over when."]
    assert len(page.read_text().splitlines()) < 50


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_command_of_a_runbook_exists_with_its_options(command: str) -> None:
    words = shlex.split(command)
    found: click.Command = cli
    context = click.Context(cli)
    while isinstance(found, click.Group):
        _, named, words = found.resolve_command(context, words)
        assert named is not None
        found, context = named, click.Context(named, parent=context)
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


GROWTH = re.compile(r"increase\((\w+?)(?:_total|_count)\{@\{scope\}(?:,(\w+)=\"([^\"~]+)\")?\}")


@pytest.mark.parametrize(
    "alert", [each for each in ALERTS if "increase(" in each.query], ids=lambda each: each.name
)
def test_counter_whose_growth_is_looked_for_begins_at_zero(alert: Alert) -> None:
    found = GROWTH.findall(alert.query)
    assert found
    for family, label, value in found:
        (metric,) = (each for each in REGISTRY if each.family == family)
        if metric.labels:
            place = [name.replace(".", "_") for name in metric.labels].index(label)
            assert value in {zeros[place] for zeros in metric.zeros}
