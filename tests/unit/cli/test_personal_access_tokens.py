"""`token-service personal-access-tokens` on a database of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from token_service.cli import cli

Run = Callable[..., Result]
CREATE = (
    "create", "--subject", "alice", "--client-id", "ci", "--name", "backup", "--audience", "api", "--audience", "files",
    "--scope", "read", "--ttl", "30d",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


@pytest.fixture
def personal(tmp_path: Path) -> Run:
    env = {
        "TOKEN_SERVICE_DATA_DIR": str(tmp_path / "data"),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",  # the first command makes the first keys
    }

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["personal-access-tokens", *arguments], env=env)

    done = CliRunner().invoke(cli, ["migrate"], env=env)
    assert done.exit_code == 0, done.output
    return run


def test_token_is_printed_once_and_nowhere_else(personal: Run) -> None:
    created = personal(*CREATE, "-o", "json")
    made = json.loads(created.stdout)
    token = made.pop("token")
    assert token.startswith("tspat_")
    assert token not in created.stderr
    assert "token.issued" in created.stderr
    assert (made["state"], made["audience"], made["scopes"]) == ("active", ["api", "files"], ["read"])
    (listed,) = json.loads(personal("list", "--subject", "alice", "-o", "json").stdout)
    assert listed == made
    assert "tspat_" not in personal("list", "--subject", "alice").output


def test_revoked_token_is_left_out_of_the_active_ones(personal: Run) -> None:
    first = json.loads(personal(*CREATE, "-o", "json").stdout)["personal_access_token_id"]
    second = json.loads(personal(*CREATE, "-o", "json").stdout)["personal_access_token_id"]
    for _ in range(2):
        assert personal("revoke", first).exit_code == 0
    active = json.loads(personal("list", "--subject", "alice", "--active", "-o", "json").stdout)
    assert [each["personal_access_token_id"] for each in active] == [second]
    shown = json.loads(personal("list", "--subject", "alice", "--client-id", "ci", "-o", "json").stdout)
    assert {each["personal_access_token_id"]: each["revoke_time"] is None for each in shown} == {
        first: False,
        second: True,
    }


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("revoke", "x"), 1, "personal_access_token_id: is not a UUID"),
        (("revoke", "0198c2f4-5a7b-4c1e-9d3f-2b6a8e4c7d10"), 4, "personal-access-tokens list"),
        ((*CREATE, "--ttl", "soon"), 2, "write for example"),
        ((*CREATE, "--ttl", "91d"), 1, "at most 7776000 seconds"),
    ],
)
def test_mistake_is_explained(personal: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = personal(*arguments)
    assert result.exit_code == code
    assert said in result.stderr


def test_database_without_a_schema_is_named(tmp_path: Path) -> None:
    env = {"TOKEN_SERVICE_DATA_DIR": str(tmp_path), "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
    result = CliRunner().invoke(cli, ["personal-access-tokens", "list", "--subject", "alice"], env=env)
    assert result.exit_code == 2
    assert (
        f"the database sqlite:///{tmp_path}/token_service.db has no schema yet; run `token-service migrate`"
        in result.stderr
    )
