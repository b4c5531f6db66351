"""`token-service personal-data` on an SQLite database, as docs/personal-data.md shows it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.contract.builders import a_session
from token_service.app.adapters import audit_keys_of, open_stores
from token_service.cli import cli
from token_service.config import load_key_encryption_keys, load_settings, prepare_data_dir

PAGE = (Path(__file__).resolve().parents[3] / "docs/personal-data.md").read_text()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose database has one session."""
    directory = tmp_path / "data"
    asyncio.run(_fill(directory))
    return directory


async def _fill(directory: Path) -> None:
    settings = load_settings({"data_dir": str(directory)}, {})
    prepare_data_dir(directory)
    load_key_encryption_keys(settings)
    async with open_stores(settings, await audit_keys_of(settings), "node-1") as stores:
        await stores.migrate()
        await stores.sessions.create(a_session(subject="alice"), None)


def run(data: Path, *arguments: str, answer: str = "") -> Result:
    environ = {"TOKEN_SERVICE_DATA_DIR": str(data)}
    return CliRunner().invoke(
        cli, ["personal-data", *arguments], env=environ, input=answer, prog_name="token-service"
    )


def test_commands_print_what_the_page_shows(data: Path) -> None:
    start, end = PAGE.index("<!-- personal-data:begin -->"), PAGE.index("<!-- personal-data:end -->")
    steps = re.findall(r"```sh\ntoken-service personal-data ([^\n]*)\n```", PAGE[start:end])
    outputs = re.findall(r"```text\n(.*?)```", PAGE[start:end], re.DOTALL)
    assert len(steps) == len(outputs) == 4
    for command, output in zip(steps, outputs, strict=True):
        result = run(data, *command.split())
        assert (result.exit_code, result.output) == (0, output)


def test_status_as_json(data: Path) -> None:
    run(data, "encrypt")
    found = json.loads(run(data, "status", "-o", "json").output)
    assert (found["state"], found["data_key"], found["remaining"]["sessions"]) == ("on", 2, 0)


def test_decryption_asks_first(data: Path) -> None:
    run(data, "encrypt")
    assert run(data, "decrypt", answer="n\n").exit_code == 1
    assert json.loads(run(data, "status", "-o", "json").output)["state"] == "on"


def test_rotation_without_encryption_is_refused(data: Path) -> None:
    result = run(data, "rotate-key")
    assert result.exit_code == 2
    assert "run `token-service personal-data encrypt`" in result.output
