"""`token-service risk rates` and `replay` without a database."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from token_service.cli import cli
from token_service.cli.risk.rules_file import recommended_text
from token_service.cli.risk.workload import ATTACKS, WorkloadSize, make_workload

SMALL = ["--users", "20", "--days", "2", "--incidents", "2"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["risk", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_workload_depends_on_the_seed_alone() -> None:
    size = WorkloadSize(users=10, days=1, incidents=2)
    uses = make_workload(size)
    assert uses == make_workload(size)
    assert uses != make_workload(WorkloadSize(users=10, days=1, incidents=2, seed=2))
    assert [use.time for use in uses] == sorted(use.time for use in uses)
    assert {use.attack.partition("/")[0] for use in uses} == {*ATTACKS, ""}


def test_rates_count_incidents_and_false_verdicts() -> None:
    found = json.loads(run("rates", *SMALL, "-o", "json"))
    assert found["user_days"] == 40
    rates = {each["attack"]: each for each in found["attacks"]}
    assert list(rates) == list(ATTACKS)
    assert all(each["incidents"] == 2 for each in rates.values())
    assert rates["token_abroad"]["detected"] == 2
    assert rates["token_same_network"]["detected"] == 0


def test_stricter_rules_find_more(tmp_path: Path) -> None:
    none = tmp_path / "none.toml"
    none.write_text("[risk.rules.new_device]\nweight = 10\n[risk.thresholds.default]\nalert = 90\n")
    found = json.loads(run("rates", "--rules", str(none), *SMALL, "-o", "json"))
    assert (found["alerts"], sum(each["detected"] for each in found["attacks"])) == (0, 0)


def test_written_workload_is_replayed(tmp_path: Path) -> None:
    file, rules = tmp_path / "workload.jsonl", tmp_path / "rules.toml"
    run("rates", *SMALL, "--write", str(file))
    rules.write_text(run("rates", "--show-rules"))
    assert rules.read_text() == recommended_text()
    shown = json.loads(run("replay", "--rules", str(rules), "--input", str(file), "-o", "json"))
    assert shown["uses"] == len(file.read_text().splitlines())
    assert shown["verdicts"]["alert"] > 0
    assert shown["examples"][0]["verdict"]["evidence"]


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    file, rules = tmp_path / "workload.jsonl", tmp_path / "rules.toml"
    file.write_text('{"time": 1}\n{"time": "odd"}\n')
    rules.write_text("[classifications.internal]\n")
    for arguments, message in (
        (["replay", "--rules", str(rules)], "has no rules about risk: add tables"),
        (["replay"], "no policy file is configured: name one with --rules"),
        (["rates", "--users", "1"], "1 is not in the range"),
    ):
        result = CliRunner().invoke(cli, ["risk", *arguments])
        assert result.exit_code != 0
        assert message in result.output + repr(result.exception)
    rules.write_text(recommended_text())
    result = CliRunner().invoke(cli, ["risk", "replay", "--rules", str(rules), "--input", str(file)])
    assert (result.exit_code, "line 2: Expected `float`" in result.output) == (1, True)
