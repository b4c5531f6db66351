from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

import token_service.app.administration
from token_service import __version__
from token_service.cli import cli
from token_service.cli.serve import hint
from token_service.config import SETTINGS, Settings, load_settings
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.errors import (
    ClientExistsError,
    ConfigurationError,
    NewerSchemaError,
    StoreUnavailableError,
)
from token_service.listening import NodeAddresses
from token_service.tokens.algorithms import Algorithm

COMMANDS = [
    ["risk"],
    ["risk", "replay"],
    ["risk", "rates"],
    ["serve"],
    ["gateway"],
    ["migrate"],
    ["config"],
    ["access"],
    ["access", "explain"],
    ["tokens"],
    ["tokens", "issue"],
    ["tokens", "validate"],
    ["tokens", "decode"],
    ["tokens", "refresh"],
    ["tokens", "revoke"],
    ["sessions"],
    ["sessions", "list"],
    ["sessions", "count"],
    ["sessions", "get"],
    ["sessions", "revoke"],
    ["keys"],
    ["keys", "list"],
    ["clients"],
    ["clients", "create"],
    ["clients", "get"],
    ["clients", "list"],
    ["clients", "update"],
    ["clients", "rotate-secret"],
    ["clients", "disable"],
    ["clients", "enable"],
    ["clients", "delete"],
    ["log"],
    ["log", "show"],
    ["log", "renew"],
    ["webhooks"],
    *(
        ["webhooks", name]
        for name in (
            *("create", "get", "list", "update", "rotate-secret", "delete"),
            *("test", "dead-letters", "redeliver", "replay"),
        )
    ),
    ["audit"],
    ["audit", "list"],
    ["audit", "verify"],
    ["audit", "export"],
    ["audit", "erase"],
    ["report"],
    *(["report", kind] for kind in ("usage", "administration", "keys", "anomalies", "geography", "verify")),
    ["explain-revocation"],
    ["completion"],
    ["version"],
]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def run(*arguments: str, **environ: str) -> Result:
    env = {f"TOKEN_SERVICE_{name}": value for name, value in environ.items()}
    return CliRunner().invoke(cli, arguments, env=env, prog_name="token-service")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert f"  token-service {' '.join(command)}" in result.stdout


def test_help_begins_with_the_options_of_the_command_itself() -> None:
    help_of_one = run("log", "renew", "--help").stdout
    assert "--yes" in help_of_one
    assert "--epoch" in help_of_one
    assert "--grpc-address" not in help_of_one
    assert "token-service config --help" in help_of_one
    assert "KEY_ID" not in run("keys", "activate", "--help").stdout.split("Options:")[1]

    own, settings = run("config", "--help").stdout.split("Options:")[1].split("Settings:")
    assert "--format" in own
    assert "--grpc-address" not in own
    assert "--grpc-address" in settings


def test_the_help_of_a_group_cuts_no_sentence_short() -> None:
    for group in ("tokens", "sessions", "keys", "clients", "log", "audit"):
        commands = run(group, "--help").stdout.split("Commands:")[1]
        assert "..." not in commands


def test_the_first_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"\n  {command[0]} " in result.stdout


def test_help_of_commands_at_a_service_lists_the_connection_apart() -> None:
    for command in (["tokens", "validate"], ["keys", "list"]):
        shown = run(*command, "--help").stdout
        own, connection = shown.split("Options:")[1].split("Connection to a service:")
        assert "--output" in own
        assert "--target" not in own
        assert "--target" in connection
        assert ("token-service config --help" in connection) is (command[0] == "keys")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_the_program_and_its_variable(shell: str) -> None:
    script = run("completion", shell)
    assert script.exit_code == 0
    assert "_TOKEN_SERVICE_COMPLETE" in script.stdout
    assert "token-service" in script.stdout


def _completed(*words: str) -> list[str]:
    environ = {
        "_TOKEN_SERVICE_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("token-service", *words)),
        "COMP_CWORD": str(len(words)),
    }
    result = CliRunner().invoke(
        cli, env=environ, prog_name="token-service", complete_var="_TOKEN_SERVICE_COMPLETE"
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


def test_commands_options_and_values_are_completed() -> None:
    assert _completed("au") == ["audit"]
    assert _completed("sessions", "re") == ["revoke"]
    assert _completed("tokens", "revoke", "--dry") == ["--dry-run"]
    assert _completed("tokens", "revoke", "--reason", "log") == ["logout"]
    assert "--target" in _completed("keys", "list", "--ta")


def test_help_and_version_load_nothing_heavy() -> None:
    program = (
        "import sys; from token_service.cli import cli; cli(sys.argv[1:], standalone_mode=False);"
        "print('loaded', *sorted(m for m in sys.modules if '.' not in m), file=sys.stderr)"
    )
    for arguments in (["--help"], ["version"], ["completion", "fish"], ["tokens", "revoke", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        loaded = set(done.stderr.split())
        assert loaded.isdisjoint(
            {"grpc", "sqlalchemy", "redis", "cryptography", "uvicorn", "asyncio", "opentelemetry"}
        )


def test_the_package_is_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "token_service", "version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"{__version__}\n"


def test_config_shows_values_and_sources_but_no_secret() -> None:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    result = run(
        *("config", "--workers", "4", "--allow-hs256"),
        DATABASE_URL="postgres://me:hunter2@db/t",
        REDIS_URL="redis://:hunter2@cache",
        KEY_ENCRYPTION_KEY=key,
    )
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert list(lines) == [setting.variable for setting in SETTINGS]
    assert lines["TOKEN_SERVICE_WORKERS"] == ["4", "flag", "--workers"]
    assert lines["TOKEN_SERVICE_ALLOW_HS256"] == ["true", "flag", "--allow-hs256"]
    assert lines["TOKEN_SERVICE_DATABASE_URL"] == ["postgresql://me:***@db/t", "environment"]
    assert lines["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] == ["***", "environment"]
    assert lines["TOKEN_SERVICE_POLICY_FILE"] == ["-", "default"]
    assert lines["TOKEN_SERVICE_KEY_ROTATION_PERIOD"] == ["90d", "default"]
    assert lines["TOKEN_SERVICE_REPLICA_POLL_INTERVAL"] == ["250ms", "default"]
    assert "hunter2" not in result.output
    assert key not in result.output


def test_the_table_of_the_documentation_has_every_setting() -> None:
    lines = run("config", "--format", "markdown").stdout.splitlines()
    assert len(lines) == 2 + len(SETTINGS)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    for setting, line in zip(SETTINGS, lines[2:], strict=True):
        assert line.startswith(f"| `{setting.variable}` |")


def test_config_refuses_the_url_of_a_workload_issuer_that_serve_refuses(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        '[workload_issuers.mesh]\ntrust_domain = "example.org"\naudience = "a"\nkeys = "https://user@mesh.test/keys"\n'
    )
    result = run("config", POLICY_FILE=str(policy))
    assert result.exit_code == 2
    assert "workload_issuers.mesh: keys: it has a user name or a password" in result.stderr
    policy.write_text(policy.read_text().replace("user@", ""))
    assert run("config", POLICY_FILE=str(policy)).exit_code == 0


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["config"], ["keys", "list"]], ids=" ".join)
def test_a_wrong_setting_is_exit_code_2_and_no_traceback(command: Sequence[str]) -> None:
    result = run(*command, "--workers", "0", LOG_FORMAT="xml")
    assert result.exit_code == 2
    assert "Error: 2 settings are wrong:" in result.stderr
    assert "TOKEN_SERVICE_WORKERS (flag --workers): '0'" in result.stderr
    assert "TOKEN_SERVICE_LOG_FORMAT (environment): 'xml'" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_secrets_have_no_command_line_flag() -> None:
    assert run("config", "--key-encryption-key", "x").exit_code == 2
    assert "--key-encryption-key " not in run("serve", "--help").stdout


def test_a_misspelt_variable_is_warned_of() -> None:
    result = run("config", DATABSE_URL="x")
    assert result.exit_code == 0
    assert "did you mean TOKEN_SERVICE_DATABASE_URL?" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("the key is wrong"), 2),
        (NewerSchemaError("the schema is newer"), 1),
        (StoreUnavailableError("no database"), 5),
        (ClientExistsError(), 1),
    ],
)
def test_failing_command_has_an_exit_code_and_a_message(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def fail(settings: Settings) -> str:
        raise error

    monkeypatch.setattr(token_service.app.administration, "missing_migrations", fail)
    result = run("migrate")
    assert result.exit_code == code
    assert result.stderr == f"Error: {error}\n"


def test_listed_keys_contain_no_private_key(monkeypatch: pytest.MonkeyPatch) -> None:
    key = StoredSigningKey(
        key_id="kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        algorithm=Algorithm.EDDSA,
        state=SigningKeyState.ACTIVE,
        public_key=b"public",
        private_key=b"wrapped",
        wrapping_key_id="w",
        create_time=1767226400.5,
    )

    @asynccontextmanager
    async def administer_keys(settings: Settings) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(keyring=SimpleNamespace(signing_keys=lambda: [key]))

    monkeypatch.setattr(token_service.app.administration, "administer_keys", administer_keys)
    header, row = run("keys", "list").stdout.splitlines()
    assert header.split() == ["KEY", "ID", "ALGORITHM", "STATE", "CREATED"]
    assert row.split() == [key.key_id, "EdDSA", "active", "2026-01-01T00:13:20Z"]
    (shown,) = json.loads(run("keys", "list", "--format", "json").stdout)
    assert shown["key_id"] == key.key_id
    assert shown["retire_time"] is None
    assert "wrapped" not in json.dumps(shown).replace("wrapping", "")


def test_serve_prints_the_next_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    text = hint(load_settings({}, {}), NodeAddresses("127.0.0.1:1234", "127.0.0.1:5678", ""))
    assert "gRPC on 127.0.0.1:1234, HTTP on http://127.0.0.1:5678" in text.splitlines()[0]
    assert "http://127.0.0.1:1234/token_service.v1.TokenService/IssueToken" in text
    assert "127.0.0.1:1234 token_service.v1.TokenService/IssueToken" in text
    assert "curl http://127.0.0.1:5678/.well-known/jwks.json" in text
    assert (
        f"{shlex.quote(sys.executable)} -m token_service tokens issue --target 127.0.0.1:1234 --subject"
        in text
    )
    assert "http://127.0.0.1:5678/console" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("token",), "No such command 'token'; did you mean tokens?"),
        (("qqqq",), "No such command 'qqqq'\n"),
    ],
)
def test_unknown_command_is_refused_with_the_nearest_one(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_name_that_the_terminal_can_not_show_is_escaped(tmp_path: Path) -> None:
    token = tmp_path / "token"
    claims = base64.urlsafe_b64encode('{"sub":"\u65e5"}'.encode()).rstrip(b"=").decode()
    token.write_text(f"e30.{claims}.AAAA")
    done = subprocess.run(
        [sys.executable, "-m", "token_service", "tokens", "decode", "--token-file", str(token)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"claims.sub  \\u65e5" in done.stdout
