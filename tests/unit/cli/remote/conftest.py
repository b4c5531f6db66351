from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.command_service import CommandService
from token_service.cli import cli
from token_service.cli.remote.connection import CONNECTION_VARIABLE, VARIABLES

Run = Callable[..., Result]


@pytest.fixture
def service() -> Iterator[CommandService]:
    """A fake service on loopback."""
    with CommandService() as running:
        yield running


@pytest.fixture
def run(service: CommandService, tmp_path: Path) -> Run:
    """Run a command of the program at the fake service; `stdin`: what it reads."""

    def run(*arguments: str, stdin: str | None = None, **environ: str | None) -> Result:
        env: dict[str, str | None] = dict.fromkeys((*VARIABLES.values(), CONNECTION_VARIABLE))
        env |= {"XDG_CONFIG_HOME": str(tmp_path), "TOKEN_SERVICE_TARGET": service.target}
        env |= {f"TOKEN_SERVICE_{name}": value for name, value in environ.items()}
        return CliRunner().invoke(cli, arguments, env=env, input=stdin)

    return run
