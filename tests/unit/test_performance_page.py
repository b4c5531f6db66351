"""docs/performance.md is what `scripts/bench --report` wrote."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks import report
from tests.benchmarks.chart import Chart, draw
from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row

ROWS = (
    Row("fast calls", "10/s", "no-op 20/s", 0.5, at_least=0.4),
    Row("slow calls", "1 ms", "limit 2 ms", 1.5, at_most=1.0, note="on a busy machine"),
)
CHART = Chart("curve", "A curve", "callers", "calls a second", {"ours": [(1, 2.0), (2, 3.0)]})
RESULT = report.SuiteResult.now(Effort(5, 1.0), ROWS, (CHART,))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "performance" / "results.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "performance.md")
    return tmp_path


def test_the_page_shows_the_kept_results() -> None:
    assert report.PAGE.read_text() == report.page(report.load()), "run scripts/bench --report"


def test_every_picture_is_of_a_kept_chart() -> None:
    charts = [chart.name for result in report.load().values() for chart in result.charts]
    assert sorted(charts) == sorted(path.stem for path in report.RESULTS.parent.glob("*.svg"))


def test_verdict_counts_goals_and_lists_the_missed(place) -> None:
    verdict = report.page({"calls": RESULT}).partition("## Verdict")[2].partition("## calls")[0]
    assert "1 of 2 goals are reached." in verdict
    assert "slow calls" in verdict
    assert "fast calls" not in verdict


def test_kept_results_read_the_same(place) -> None:
    report.save({"calls": RESULT}, ["calls"])
    kept = report.load()["calls"]
    assert kept.rows == ROWS
    assert (kept.version, kept.machine) == (RESULT.version, RESULT.machine)
    assert report.page(report.load()) == report.PAGE.read_text()


def test_a_suite_that_runs_again_replaces_its_own_results_only(place) -> None:
    order = ["first", "second"]
    report.save({"second": RESULT}, order)
    report.save({"first": replace(RESULT, rows=ROWS[:1]), "second": replace(RESULT, rows=ROWS[1:])}, order)
    report.save({"second": RESULT}, order)
    kept = report.load()
    assert list(kept) == order
    assert (kept["first"].rows, kept["second"].rows) == (ROWS[:1], ROWS)


def test_a_result_names_only_cores_and_model_of_the_machine(place) -> None:
    assert set(vars(RESULT.machine)) == {"model", "cores", "python"}


def test_the_same_chart_gives_the_same_picture(tmp_path) -> None:
    first = draw(CHART, tmp_path).read_bytes()
    assert draw(CHART, tmp_path).read_bytes() == first
    assert b"A curve" in first
