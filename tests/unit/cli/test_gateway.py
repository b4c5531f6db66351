from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.gateway.conftest import minimal
from token_service.cli import cli


@pytest.mark.parametrize(
    ("text", "exit_code", "said"),
    [
        (minimal(), 0, "gateway.toml is good"),
        ("[listen]\ngprc = ''", 2, "unknown field `gprc`"),
        (minimal("[routes.a]\nissuer = 'https://unknown.example'"), 2, "routes.a: issuer"),
    ],
)
def test_check_config(tmp_path: Path, text: str, exit_code: int, said: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    done = CliRunner().invoke(cli, ["gateway", "--config", str(path), "--check-config"])
    assert done.exit_code == exit_code
    assert said in done.output


def test_file_may_be_named_in_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(minimal())
    environment = {"TOKEN_GATEWAY_CONFIG": str(path)}
    assert CliRunner().invoke(cli, ["gateway", "--check-config"], env=environment).exit_code == 0
    assert CliRunner().invoke(cli, ["gateway", "--check-config"]).exit_code == 2


def test_configuration_of_the_help_is_good(tmp_path: Path) -> None:
    lines = CliRunner().invoke(cli, ["gateway", "--help"]).output.splitlines()
    begin = next(number for number, line in enumerate(lines) if "shortest file" in line) + 1
    end = next(number for number, line in enumerate(lines) if line.startswith("Options"))
    path = tmp_path / "gateway.toml"
    path.write_text("\n".join(lines[begin:end]))
    done = CliRunner().invoke(cli, ["gateway", "--config", str(path), "--check-config"])
    assert done.exit_code == 0, done.output
