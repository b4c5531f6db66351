"""docs/risk.md: its rules, its numbers and its commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.preloaded import token_service
from token_service.cli.risk.rules_file import recommended_text

PAGE = (Path(__file__).parents[2] / "docs" / "risk.md").read_text()


def block(name: str) -> str:
    found = re.search(rf"<!-- {name}:begin -->\n```\w+\n(.*?)```\n<!-- {name}:end -->", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def run(directory: Path, command: str) -> str:
    name, *arguments = shlex.split(command)
    assert name == "token-service"
    environ = {**os.environ, "TOKEN_SERVICE_DATA_DIR": str(directory / "data")}
    done = subprocess.run(
        [*token_service(), *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_the_recommended_rules() -> None:
    assert block("recommended") == recommended_text()


@pytest.mark.parametrize("name", ["rates", "strict"])
def test_the_page_shows_what_the_command_measures(name: str, tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text(recommended_text().replace("step_up = 70", "step_up = 60"))
    command, _, shown = block(name).partition("\n")
    assert run(tmp_path, command.removeprefix("$ ")) == shown


def test_the_replay_of_the_page_runs(tmp_path: Path) -> None:
    (command,) = re.findall(r"```sh\n(.*?)\n```", PAGE)
    (tmp_path / "changed.toml").write_text(recommended_text())
    run(tmp_path, "token-service migrate")
    assert "0 uses of 0 sessions" in run(tmp_path, command)
    run(tmp_path, "token-service risk rates --users 10 --days 1 --write workload.jsonl")
    replayed = run(tmp_path, "token-service risk replay --rules changed.toml --input workload.jsonl")
    assert re.search(r"^alert +[1-9]", replayed, re.MULTILINE)
    assert "new_device +45: another user agent than before" in replayed
