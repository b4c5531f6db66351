"""`token-service clients` on a database of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from token_service.cli import cli

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


@pytest.fixture
def clients(tmp_path: Path) -> Run:
    """Run a command; `stdin`: what the operator types."""

    def run(*arguments: str, stdin: str | None = None, **environ: str) -> Result:
        env = {"TOKEN_SERVICE_DATA_DIR": str(tmp_path / "data")}
        env |= {f"TOKEN_SERVICE_{name}": value for name, value in environ.items()}
        return CliRunner().invoke(cli, ["clients", *arguments], env=env, input=stdin)

    done = CliRunner().invoke(cli, ["migrate"], env={"TOKEN_SERVICE_DATA_DIR": str(tmp_path / "data")})
    assert done.exit_code == 0, done.output
    return run


def test_secret_is_printed_once_and_nowhere_else(clients: Run) -> None:
    created = clients("create", "--token-endpoint-auth-method", "client_secret_basic", "-o", "json")
    made = json.loads(created.stdout)
    secret = made.pop("client_secret")
    assert secret.startswith("tscs_")
    assert secret not in created.stderr
    shown = clients("get", made["client_id"], "-o", "json")
    assert json.loads(shown.stdout) == made
    rotated = clients(
        "rotate-secret", made["client_id"], "--overlap", "90s", "--secret-ttl", "30d", "-o", "json"
    )
    again = json.loads(rotated.stdout)
    assert again["client_secret"] not in {secret, None}
    assert [each["expire_time"] is None for each in again["secrets"]] == [False, False]
    for result in (clients("list"), clients("list", "-o", "json"), clients("disable", made["client_id"])):
        assert result.exit_code == 0
        assert "tscs_" not in result.output


@pytest.mark.parametrize("kind", ["json", "toml"])
def test_settings_come_from_a_file_and_options_override_it(clients: Run, tmp_path: Path, kind: str) -> None:
    settings = {
        "client_name": "from the file",
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks_uri": "https://app.example/jwks",
        "accepts_endpoint_audience": True,
        "scopes": ["read", "write"],
    }
    file = tmp_path / f"client.{kind}"
    lines = (f"{name} = {json.dumps(value)}" for name, value in settings.items())
    file.write_text(json.dumps(settings) if kind == "json" else "\n".join(lines))
    result = clients(
        "create", "--client-id", "app", "--file", str(file), "--client-name", "mine", "-o", "json"
    )
    made = json.loads(result.stdout)
    assert {name: made[name] for name in settings} == {**settings, "client_name": "mine"}
    updated = clients("update", "app", "--scope", "read", "--etag", made["etag"], "-o", "json")
    assert json.loads(updated.stdout)["scopes"] == ["read"]
    assert json.loads(updated.stdout)["client_name"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "content", "code", "part"),
    [
        (["create", "--file", "FILE"], '{"redirect_uri": []}', 2, "did you mean redirect_uris?"),
        (["create", "--file", "FILE"], '{"client_id": "a"}', 2, "client_id: no such setting"),
        (["create", "--file", "FILE"], '{"client_uri": "a"}', 2, "no such setting"),
        (["create", "--file", "FILE"], '{"security_profile": "fapi1"}', 2, "can't be used"),
        (["create", "--file", "FILE"], '{"scopes": "read"}', 2, "can't be used"),
        (["create", "--file", "FILE"], "[]", 2, "is not a JSON object"),
        (["create", "--file", "FILE"], "{", 2, "is not JSON"),
        (["create", "--file", "missing"], "", 2, "can't be read"),
        (["create", "--secret-ttl", "soon"], "", 2, "write for example 90s"),
        (["create", "--grant-type", "password"], "", 1, "grant_types[0]: is none of"),
        (["create", "--redirect-uri", "http://app.example/"], "", 1, "redirect_uris[0]: must begin with"),
        (["create", "--classification", "unknown"], "", 1, "classification: is none of"),
        (["update", "app"], "", 2, "name a setting to change"),
        (["update", "unknown", "--scope", "a"], "", 4, "`token-service clients list` shows all"),
        (["get", "unknown"], "", 4, "there is no such client"),
        (["disable", "unknown"], "", 4, "there is no such client"),
        (["get"], "", 2, "CLIENT_ID"),
    ],
)
def test_mistake_has_an_exit_code_and_a_message(
    clients: Run, tmp_path: Path, arguments: list[str], content: str, code: int, part: str
) -> None:
    file = tmp_path / "client.json"
    file.write_text(content)
    result = clients(*(str(file) if each == "FILE" else each for each in arguments))
    assert (result.exit_code, part in result.stderr) == (code, True), result.stderr
    assert clients("list").stdout == ""


def test_classification_may_be_one_of_the_policy_file(clients: Run, tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text("[classifications.robots]\naccess_token_ttl = 60\n")
    made = clients("create", "--classification", "robots", POLICY_FILE=str(file))
    assert made.exit_code == 0
    assert "robots" in made.stdout


def test_pairwise_subjects_need_the_key_and_a_sector(clients: Run) -> None:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    create = ("create", "--client-id", "rp", "--subject-type", "pairwise", "-o", "json")
    refused = clients(*create, "--redirect-uri", "https://rp.example/cb")
    assert (refused.exit_code, "TOKEN_SERVICE_PAIRWISE_KEY" in refused.stderr) == (1, True)
    refused = clients(*create, "--redirect-uri", "http://127.0.0.1/cb", PAIRWISE_KEY=key)
    assert (refused.exit_code, "sector_identifier_uri: is required" in refused.stderr) == (1, True)
    made = clients(*create, "--redirect-uri", "https://rp.example/cb", PAIRWISE_KEY=key)
    assert json.loads(made.stdout)["subject_type"] == "pairwise"


def test_security_settings_are_options(clients: Run) -> None:
    made = clients(
        "create", "--client-id", "bank", "--dpop-bound-access-tokens", "--require-pushed-authorization-requests",
        "-o", "json",
    )  # fmt: skip
    shown = json.loads(made.stdout)
    assert (shown["dpop_bound_access_tokens"], shown["require_pushed_authorization_requests"]) == (True, True)
    updated = clients("update", "bank", "--no-dpop-bound-access-tokens", "-o", "json")
    assert "dpop_bound_access_tokens" not in json.loads(updated.stdout)
    assert json.loads(updated.stdout)["require_pushed_authorization_requests"] is True


def test_changed_client_is_refused_by_its_etag(clients: Run) -> None:
    clients("create", "--client-id", "app")
    for command in (["update", "app", "--scope", "a"], ["disable", "app"], ["delete", "app", "--yes"]):
        result = clients(*command, "--etag", "9")
        assert (result.exit_code, "another etag" in result.stderr) == (1, True)


def test_deletion_asks_first(clients: Run) -> None:
    clients("create", "--client-id", "app")
    assert clients("delete", "app", stdin="n\n").exit_code == 1
    assert clients("get", "app").exit_code == 0
    assert clients("delete", "app", stdin="y\n").exit_code == 0
    assert clients("get", "app").exit_code == 4
    taken = clients("create", "--client-id", "app")
    assert (taken.exit_code, "never given to another client" in taken.stderr) == (1, True)
