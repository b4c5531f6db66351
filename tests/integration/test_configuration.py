"""Settings and command lines that the program accepts and refuses."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.integration.nodes import Node, key_encryption_key
from tests.support.certificates import Authority
from tests.support.deadline import eventually_sync
from tests.support.files import rewrite
from tests.support.preloaded import token_service
from token_service.cli import cli


def run(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    return subprocess.run(
        [*token_service(), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**inherited, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers, flags = root.level, root.handlers[:], logging.raiseExceptions
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
        logging.raiseExceptions = flags


def config(env: Mapping[str, str], cwd: Path) -> Result:
    """Run `token-service config` in this process: most of the time of its own process goes into imports."""
    others: dict[str, str | None] = {name: None for name in os.environ if name.startswith("TOKEN_SERVICE_")}
    with contextlib.chdir(cwd), logging_restored():
        # An exception that is no refusal fails the test.
        return CliRunner().invoke(
            cli, ["config"], env={**others, **env}, prog_name="token-service", catch_exceptions=False
        )


REFUSED = {
    "address": ({"GRPC_ADDRESS": "nonsense"}, ["TOKEN_SERVICE_GRPC_ADDRESS", "nonsense", "host:port"]),
    "profile": ({"PROFILE": "staging"}, ["TOKEN_SERVICE_PROFILE", "staging", "production"]),
    "workers": ({"WORKERS": "0"}, ["TOKEN_SERVICE_WORKERS", "'0'", "from 1 to 64"]),
    "algorithm": ({"SIGNING_ALGORITHM": "none"}, ["TOKEN_SERVICE_SIGNING_ALGORITHM", "none", "ES256"]),
    "policy file": ({"POLICY_FILE": "/no/such/file"}, ["TOKEN_SERVICE_POLICY_FILE", "/no/such/file"]),
    "database": (
        {"DATABASE_URL": "mysql://user:hunter2@host/db"},
        ["TOKEN_SERVICE_DATABASE_URL", "mysql://user:***@host/db", "postgresql://"],
    ),
    "redis": ({"REDIS_URL": "http://:hunter2@host"}, ["TOKEN_SERVICE_REDIS_URL", "***", "redis://"]),
    "key": ({"KEY_ENCRYPTION_KEY": "hunter2"}, ["TOKEN_SERVICE_KEY_ENCRYPTION_KEY", "***", "base64"]),
    "several": (
        {"WORKERS": "many", "LOG_LEVEL": "loud", "ISSUER": "hunter"},
        ["3 settings", "TOKEN_SERVICE_WORKERS", "TOKEN_SERVICE_LOG_LEVEL", "TOKEN_SERVICE_ISSUER"],
    ),
    "public without callers": (
        {"GRPC_ADDRESS": "0.0.0.0:0"},
        ["TOKEN_SERVICE_GRPC_ADDRESS", "PROFILE=production"],
    ),
    "shared secret": ({"SIGNING_ALGORITHM": "HS256"}, ["HS256", "TOKEN_SERVICE_ALLOW_HS256"]),
    "bare production": (
        {"PROFILE": "production"},
        [
            "TLS_CERT_FILE",
            "TLS_KEY_FILE",
            "TLS_CLIENT_CA_FILE",
            "KEY_ENCRYPTION_KEY",
            "DATABASE_URL",
            "ISSUER",
        ],
    ),
    "half a certificate": ({"TLS_CERT_FILE": __file__}, ["TLS_CERT_FILE", "TLS_KEY_FILE"]),
    "unknown classification": (
        {"POLICY__SECRET__GRACE_PERIOD": "1s"},
        ["secret", "internal", "restricted"],
    ),
    "policy out of bounds": (
        {"POLICY__INTERNAL__ACCESS_TOKEN_TTL": "2h"},
        ["internal.access_token_ttl", "2h", "3600"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bad_setting_is_refused_with_name_value_and_allowed_values(what: str, tmp_path: Path) -> None:
    change, expected = REFUSED[what]
    env = {f"TOKEN_SERVICE_{name}": value for name, value in change.items()}
    free = {f"TOKEN_SERVICE_{name}_ADDRESS": "127.0.0.1:0" for name in ("GRPC", "HTTP")}
    served, checked = run("serve", env=free | env, cwd=tmp_path), config(env, tmp_path)
    for code, said in (
        (served.returncode, served.stdout + served.stderr),
        (checked.exit_code, checked.output),
    ):
        assert code == 2, said
        for text in expected:
            assert text in said
        assert "hunter2" not in said
        assert "Traceback" not in said
        assert not list(tmp_path.iterdir()), "a file was created before the refusal"


FILES = {
    "policy.toml": b"[classifications.internl]\nacess_token_ttl = '5m'\n[clients.web]\nclasification = 'public'\n"
    b"[callers.x]\npermissions = ['isue']\n",
    "callers.toml": b"[callers.x]\npermissions = ['isue']\n[callers.y]\npermission = []\n",
    "deep.toml": b"x = " + b"[" * 3000,
    "garbage": b"\0\xff",
    "key.txt": b"hunter2",
}
AUTHORITY = Authority()
OTHER = AUTHORITY.server()
SERVER = AUTHORITY.server()
FILES_REFUSED = {
    "policy": (
        {"POLICY_FILE": "policy.toml"},
        ["internl.acess_token_ttl: no such setting", "mean access_token_ttl?", "mean classification?"],
    ),
    "callers": ({"POLICY_FILE": "callers.toml"}, ["callers.x: 'isue'", "mean issue?", "mean permissions?"]),
    "deep policy": ({"POLICY_FILE": "deep.toml"}, ["deep.toml: the content is not TOML"]),
    "no certificate": (
        {"TLS_CERT_FILE": "garbage", "TLS_KEY_FILE": "key.pem"},
        ["garbage (TOKEN_SERVICE_TLS_CERT_FILE) holds no certificate"],
    ),
    "no key": (
        {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "garbage"},
        ["garbage (TOKEN_SERVICE_TLS_KEY_FILE) holds no private key"],
    ),
    "another key": (
        {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "other.pem"},
        ["other.pem (TOKEN_SERVICE_TLS_KEY_FILE) is not that of the certificate in", "cert.pem"],
    ),
    "no authorities": (
        {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "key.pem", "TLS_CLIENT_CA_FILE": "garbage"},
        ["garbage (TOKEN_SERVICE_TLS_CLIENT_CA_FILE) holds no certificates"],
    ),
    "key-encryption key": (
        {"KEY_ENCRYPTION_KEY_FILE": "key.txt"},
        ["TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE", "key.txt", "base64"],
    ),
    "PKCS#11 module": (
        {"PKCS11_MODULE": "garbage", "PKCS11_PIN": "hunter2"},
        ["garbage can't be loaded as a PKCS#11 module"],
    ),
    "Redis option": (
        {"REDIS_URL": "redis://:hunter2@127.0.0.1/0?socket_timeout=soon"},
        ["TOKEN_SERVICE_REDIS_URL: redis://:***@127.0.0.1/0?socket_timeout=soon"],
    ),
    "exporter": ({"OTEL": "fax"}, ["OTEL_METRICS_EXPORTER is 'fax'"]),
    "no socket": ({"GRPC_ADDRESS": "unix:garbage"}, ["unix:garbage (the file there is not a socket)"]),
    "not of this machine": (
        {"GRPC_ADDRESS": "127.0.0.1:0", "HTTP_ADDRESS": "[::1%nowhere]:0"},
        ["TOKEN_SERVICE_HTTP_ADDRESS"],
    ),
}


@pytest.mark.parametrize("what", FILES_REFUSED)
def test_config_refuses_the_files_and_addresses_that_serve_refuses(what: str, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    for name, pem in (
        ("cert.pem", SERVER.certificate),
        ("key.pem", SERVER.key),
        ("other.pem", OTHER.key),
    ):
        (tmp_path / name).write_bytes(pem)
    change, expected = FILES_REFUSED[what]
    given = {"GRPC_ADDRESS": "127.0.0.1:0", "HTTP_ADDRESS": "127.0.0.1:0", **change}
    env = {f"TOKEN_SERVICE_{name}": value for name, value in given.items() if name != "OTEL"}
    if "OTEL" in change:
        env["OTEL_METRICS_EXPORTER"] = change["OTEL"]
    checked, served = config(env, tmp_path), run("serve", env=env, cwd=tmp_path)
    for code, out, error in (
        (checked.exit_code, checked.stdout, checked.stderr),
        (served.returncode, served.stdout, served.stderr),
    ):
        assert code == 2, error
        for text in expected:
            assert text in error
        assert "hunter2" not in out + error
        assert "Traceback" not in error


def test_config_reports_all_wrong_settings_together(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    env = {
        "TOKEN_SERVICE_POLICY_FILE": "deep.toml",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE": "key.txt",
        "TOKEN_SERVICE_GRPC_ADDRESS": "unix:garbage",
    }
    done = run("config", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "3 settings are wrong:" in done.stderr
    for text in ("deep.toml: the content is not TOML", "key.txt", "unix:garbage"):
        assert text in done.stderr


def test_config_accepts_the_addresses_of_a_running_node(tmp_path: Path) -> None:
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as node:
        env = {
            "TOKEN_SERVICE_GRPC_ADDRESS": node.grpc_address,
            "TOKEN_SERVICE_HTTP_ADDRESS": node.http_address,
        }
        assert run("config", env=env, cwd=tmp_path).returncode == 0
    assert not list(tmp_path.iterdir())


def test_help_names_every_command_and_every_setting(tmp_path: Path) -> None:
    shown = run("--help", cwd=tmp_path).stdout
    for command in ("serve", "migrate", "config"):
        assert command in shown
    shown = run("serve", "--help", cwd=tmp_path).stdout
    names = "grpc-address http-address database-url redis-url issuer profile workers signing-algorithm policy-file data-dir"
    for name in names.split():
        assert f"--{name}" in shown
    assert run("serve", "--no-such-flag", cwd=tmp_path).returncode == 2


def test_config_shows_where_each_value_comes_from_and_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('workers = 2\nlog_level = "warning"\nissuer = "http://from-file.example.org"\n')
    key = key_encryption_key()
    env = {
        "TOKEN_SERVICE_LOG_LEVEL": "debug",
        "TOKEN_SERVICE_DATABASE_URL": "postgresql://user:hunter2@db.example.org/tokens",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key,
    }
    done = run(
        "config", "--config", str(file), "--issuer", "http://from-flag.example.org", env=env, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines() if line}
    assert lines["TOKEN_SERVICE_WORKERS"] == "2 file"
    assert lines["TOKEN_SERVICE_LOG_LEVEL"] == "debug environment"
    assert lines["TOKEN_SERVICE_ISSUER"] == "http://from-flag.example.org flag --issuer"
    assert lines["TOKEN_SERVICE_GRPC_ADDRESS"] == "127.0.0.1:50051 default"
    assert "db.example.org" in lines["TOKEN_SERVICE_DATABASE_URL"]
    assert "hunter2" not in done.stdout
    assert key not in done.stdout
    file.write_text("wrokers = 2\n")
    done = run("config", "--config", str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean workers?" in done.stderr


def test_migrate_may_run_repeatedly(tmp_path: Path) -> None:
    env = {"TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path / 'tokens.db'}"}
    for _ in range(2):
        done = run("migrate", env=env, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "schema" in done.stdout
    env = {"TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path / 'no' / 'such' / 'directory' / 'tokens.db'}"}
    done = run("migrate", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert "tokens.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_newer_schema_ends_every_command_with_one_line(tmp_path: Path) -> None:
    env = {"TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path / 'tokens.db'}"}
    assert run("migrate", env=env, cwd=tmp_path).returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "tokens.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    for command in (["serve"], ["migrate"], ["migrate", "--check"], ["version", "--check"]):
        done = run(*command, env={**env, "TOKEN_SERVICE_HTTP_ADDRESS": "127.0.0.1:0"}, cwd=tmp_path)
        assert done.returncode == 1, command
        assert "Traceback" not in done.stderr
        *_, line = done.stderr.splitlines()
        assert re.match(
            r"Error: the schema 9999 is newer than this version \(\d{4}\); use the version of the service that",
            line,
        )


def test_migrate_on_postgresql_hides_the_password(postgres_url: str, tmp_path: Path) -> None:
    for _ in range(2):
        done = run("migrate", env={"TOKEN_SERVICE_DATABASE_URL": postgres_url}, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not re.search(r":[0-9a-f]{32}@", done.stdout + done.stderr)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as node:
        for name, address in (("GRPC_ADDRESS", node.grpc_address), ("HTTP_ADDRESS", node.http_address)):
            other = {"GRPC_ADDRESS": "127.0.0.1:0", "HTTP_ADDRESS": "127.0.0.1:0", name: address}
            env = {f"TOKEN_SERVICE_{key}": value for key, value in other.items()}
            for workers in ("1", "2"):
                done = run("serve", "--workers", workers, env=env, cwd=tmp_path)
                assert done.returncode == 2
                assert f"TOKEN_SERVICE_{name}" in done.stdout + done.stderr
                assert address in done.stdout + done.stderr
                assert f"choose another with --{name.lower().replace('_', '-')}" in done.stderr
                assert "Traceback" not in done.stderr


def test_an_unreachable_database_ends_serve_without_a_traceback(
    tmp_path: Path,
) -> None:
    env = {
        "TOKEN_SERVICE_GRPC_ADDRESS": "127.0.0.1:0",
        "TOKEN_SERVICE_HTTP_ADDRESS": "127.0.0.1:0",
        "TOKEN_SERVICE_DATABASE_URL": "postgresql://user:hunter2@127.0.0.1:1/tokens",
    }
    done = run("serve", env=env, cwd=tmp_path)
    assert done.returncode in {1, 2, 5}
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_changed_policies_apply_without_a_restart(tmp_path: Path) -> None:
    import asyncio

    from tests.integration.calls import Api

    policy = tmp_path / "policy.toml"
    policy.write_text('[clients.web]\nclassification = "confidential"\n')
    env = {"TOKEN_SERVICE_POLICY_FILE": str(policy), "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}

    async def ttl(address: str) -> int:
        async with Api(address) as api:
            issued = await api.issue()
            claims = (await api.validate(issued.access_token)).claims
            return claims.expire_time.seconds - claims.issue_time.seconds

    with Node(env=env) as node:
        assert asyncio.run(ttl(node.grpc_address)) == 15 * 60
        rewrite(
            policy,
            '[classifications.confidential]\naccess_token_ttl = "1m"\n[clients.web]\nclassification = "confidential"\n',
        )
        eventually_sync(lambda: asyncio.run(ttl(node.grpc_address)) == 60)
        rewrite(policy, "[classifications.confidential]\naccess_token_ttl = true\n")
        eventually_sync(lambda: "the policies in force stay unchanged" in node.log_text())
        assert asyncio.run(ttl(node.grpc_address)) == 60


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_default_issuer_has_the_actual_http_address(tmp_path: Path, workers: str) -> None:
    import asyncio

    from tests.integration.calls import Api
    from tests.support.managed import ManagedProcess

    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    addresses = ("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")
    process = ManagedProcess(
        [sys.executable, "-m", "token_service", "serve", "--workers", workers, *addresses],
        log=tmp_path / "log",
        env={**inherited, "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
    )

    async def issuer(address: str) -> str:
        async with Api(address) as api:
            claims = (await api.validate((await api.issue()).access_token)).claims
            return str(claims.issuer)

    try:
        ready = eventually_sync(
            lambda: re.search(r"is ready: gRPC on (\S+), HTTP on (http://\S+)", process.log_text())
        )
        for _ in range(4):
            assert asyncio.run(issuer(ready[1])) == ready[2]
    finally:
        process.kill()


def test_a_node_on_a_unix_socket_dumps_no_core(tmp_path: Path) -> None:
    import asyncio

    import psutil

    from tests.integration.calls import Api

    env = {
        "TOKEN_SERVICE_GRPC_ADDRESS": f"unix:{tmp_path}/s",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }

    async def issued() -> str:
        async with Api(f"unix:{tmp_path}/s") as api:
            return (await api.issue()).access_token

    with Node(env=env) as node:
        assert psutil.Process(node.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert asyncio.run(issued())
        node.kill()
        node.start()  # replaces the socket that the killed node left
        assert asyncio.run(issued())
        assert node.terminate() == 0
        assert not (tmp_path / "s").exists()
        assert f"--unix-socket {tmp_path}/s" in node.log_text()
