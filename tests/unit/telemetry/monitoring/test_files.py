"""The generated files are current, and the command writes those of another service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from token_service.telemetry.monitoring import yaml
from token_service.telemetry.monitoring.__main__ import main
from token_service.telemetry.monitoring.files import files, outdated, write
from token_service.telemetry.monitoring.site import Site

ROOT = Path(__file__).resolve().parents[4]
PACKAGE = ROOT / "token_service"


def test_files_of_the_repository_are_current() -> None:
    assert outdated(ROOT / "deploy", Site()) == [], "run scripts/gen-dashboards"


def test_rules_for_the_prometheus_operator_are_current(tmp_path: Path) -> None:
    made, kept = tmp_path / "rule.yaml", "deploy/kubernetes/components/monitoring/prometheus-rule.yaml"
    subprocess.run([ROOT / "scripts" / "gen-prometheus-rule", "--out", made], check=True)
    assert made.read_text() == (ROOT / kept).read_text(), "run scripts/gen-prometheus-rule"


def test_no_other_file_is_beside_them() -> None:
    found = {
        str(path.relative_to(ROOT / "deploy"))
        for pattern in ("grafana/*.json", "prometheus/*.yml")
        for path in (ROOT / "deploy").glob(pattern)
    }
    assert found == set(files(Site()))


def test_check_names_files_that_are_not_current(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, Site())
    assert main(["--check", "--out", str(tmp_path)]) == 0
    (tmp_path / "grafana" / "keys.json").write_text("{}")
    (tmp_path / "prometheus" / "alerts.yml").unlink()
    assert main(["--check", "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" is not")[0] for line in lines] == [
        str(tmp_path / "grafana" / "keys.json"),
        str(tmp_path / "prometheus" / "alerts.yml"),
    ]
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--check", "--out", str(tmp_path)]) == 0


def test_options_change_the_rules(tmp_path: Path) -> None:
    options = ["--job", "auth", "--target", "10.0.0.5:9464", "--docs", "https://x/docs", "--pace", "60"]
    limits = [
        "--janitor-interval",
        "300",
        "--replica-max-age",
        "4",
        "--freshness-bound",
        "7",
        "--availability",
        "0.9",
    ]
    assert main(["--out", str(tmp_path), *options, *limits]) == 0
    alerts = (tmp_path / "prometheus" / "alerts.yml").read_text()
    for text in (
        'min by (job) (token_service_janitor_age_seconds{job="auth"}) > 900',
        'token_service_replica_staleness_seconds{job="auth"} > 2',
        'token_service_statistic="max"}) > 7',
        "token_service:requests_failed:ratio_rate1h > 1.44",
        "for: 2s",
        "[10s]",
        "https://x/docs/runbooks/node-down.md",
    ):
        assert text in alerts, text
    assert "- '10.0.0.5:9464'" in (tmp_path / "prometheus" / "prometheus.yml").read_text()


def test_nodes_do_not_import_the_generator() -> None:
    own = PACKAGE / "telemetry" / "monitoring"
    others = [path for path in PACKAGE.rglob("*.py") if own not in path.parents]
    assert not [path for path in others if "telemetry.monitoring" in path.read_text()]


def test_yaml_quotes_what_would_mean_something_else() -> None:
    text = yaml.text(
        {
            "a": "x",
            "b": [{"c": "5m", "d": ["yes", 'say "it\'s"']}],
            "e": {"f": 1, "g": True},
            "h": "a: b",
            "i": "x\ny",
        }
    )
    assert text.splitlines() == [
        "a: x",
        "b:",
        "  - c: 5m",
        "    d:",
        "      - 'yes'",
        "      - 'say \"it''s\"'",
        "e:",
        "  f: 1",
        "  g: true",
        "h: 'a: b'",
        f"i: {json.dumps('x' + chr(10) + 'y')}",
    ]
