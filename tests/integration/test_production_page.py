"""The commands and programs of docs/production.md, run in order, print what the page shows."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.nodes import assert_clean
from tests.integration.tour import DOCS, ROOT, Tour, steps
from tests.support.ports import free_port, release_port
from tests.support.redis import flush
from token_service.app.check import check
from token_service.config import load_settings
from token_service.errors import ConfigurationError

PAGE = DOCS / "production.md"
POSTGRES = "postgresql://token_service:password@127.0.0.1:5432/token_service"
REDIS = "redis://127.0.0.1:6379/0"
PORTS = ("50051", "50052", "8080", "50061", "50062", "8081")


@dataclass(frozen=True)
class Deployment:
    """The files that the page made, after its last command."""

    directory: Path
    database_url: str
    redis_url: str


def normalized(text: str) -> str:
    text = text.replace("CREATED" + " " * 15, "CREATED  ")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture(scope="module")
def deployment(shared_postgres_url: str, redis_server: str) -> Iterator[Deployment]:
    flush(redis_server)
    ports = {f"127.0.0.1:{port}": free_port() for port in PORTS}
    replaced = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with Tour(None, {**replaced, POSTGRES: shared_postgres_url, REDIS: redis_server}) as shell:
        # Standard error is separate, because OpenSSL reports there.
        shell._type("exec 2>errors; unset ${!TOKEN_SERVICE_*}")
        directory = Path(shell._type("pwd").strip())
        for step in steps(PAGE.read_text(), "production"):
            printed = normalized(shell.run(step, 300))
            assert printed == normalized(step.shown or ""), (
                f"{step.code}\n{shell._type('tail -n 40 errors node-*.log')}"
            )
        yield Deployment(directory, shared_postgres_url, redis_server)
    for port in ports.values():
        release_port(port)


def test_commands_print_what_the_page_shows(deployment: Deployment) -> None:
    for node in (1, 2):
        assert_clean((deployment.directory / f"node-{node}.log").read_text())


@dataclass(frozen=True)
class Mistake:
    """A change of the deployment that production refuses, and the text of its message."""

    message: str
    pattern: str = ""
    """A regular expression for text in `file`."""
    replacement: str = ""
    file: str = "service.toml"
    env: Mapping[str, str] | None = None
    mode: int = 0o600


MISTAKES = {
    "no server certificate, key, or authority of clients": [
        Mistake("set TOKEN_SERVICE_TLS_CERT_FILE, TOKEN_SERVICE_TLS_KEY_FILE", r"tls_(cert|key)_file = .*"),
        Mistake("set TOKEN_SERVICE_TLS_CLIENT_CA_FILE", "tls_client_ca_file = .*"),
    ],
    "neither TLS on the HTTP port nor a trusted proxy": [
        Mistake("set TOKEN_SERVICE_HTTP_TLS=true, or TOKEN_SERVICE_TRUSTED_PROXIES", "http_tls = true")
    ],
    "`Client-Cert` without trusted proxies": [
        Mistake("set TOKEN_SERVICE_TRUSTED_PROXIES, too", env={"TOKEN_SERVICE_PROXY_CLIENT_CERT": "true"})
    ],
    "a network of all addresses as a trusted proxy": [
        Mistake("every client could forge headers", env={"TOKEN_SERVICE_TRUSTED_PROXIES": "0.0.0.0/0"})
    ],
    "a key that does not belong to the certificate": [
        Mistake("is not that of the certificate", "server.key", "login.key")
    ],
    "an issuer that is not https": [Mistake("allowed in production: an https URL", "https:", "http:")],
    "no key-encryption key, or none for the audit trail": [
        Mistake("the key-encryption key is not generated", "key_encryption_key_file = .*"),
        Mistake("the key of the audit trail is not generated", "audit_key_file = .*"),
    ],
    "a key file that other users can read": [
        Mistake("run `chmod 600 key-encryption.key`", file="key-encryption.key", mode=0o644),
        Mistake("run `chmod 600 audit.key`", file="audit.key", mode=0o644),
    ],
    "a key in a file and in the environment at once": [
        Mistake("are both set", env={"TOKEN_SERVICE_AUDIT_KEY": "A" * 43 + "="}),
        Mistake("are both set", env={"TOKEN_SERVICE_KEY_ENCRYPTION_KEY": "A" * 43 + "="}),
    ],
    "no database": [Mistake("set TOKEN_SERVICE_DATABASE_URL", env={"TOKEN_SERVICE_DATABASE_URL": ""})],
    "SQLite with Redis": [
        Mistake("is SQLite, which nodes can't share", env={"TOKEN_SERVICE_DATABASE_URL": "sqlite:///t.db"})
    ],
    "`issue` or `exchange` without bounds in the policy file": [
        Mistake("write unbounded = true", r'"refresh"\]', '"issue"]', file="policy.toml"),
        Mistake("write unbounded = true", r'"refresh"\]', '"exchange"]', file="policy.toml"),
    ],
    "a policy file with an unknown setting, caller or workload issuer": [
        Mistake("no such setting", "permissions = ", "permission = ", file="policy.toml"),
        Mistake(
            "is neither a SPIFFE ID nor a DNS name", "spiffe://example.org/op", "op ", file="policy.toml"
        ),
        Mistake("no such setting", "trust_domain", "trust_domian", file="policy.toml"),
        Mistake("it has a user name or a password", "file:mesh.jwks", "https://a@b/jwks", file="policy.toml"),
    ],
    "HS256 without `allow_hs256`": [Mistake("is HS256", "ES256", "HS256")],
}


def test_production_refuses_what_the_page_lists(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chapter = PAGE.read_text().partition("## Refused in production\n")[2]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", chapter, re.MULTILINE)
    assert [row for row in rows if row not in ("refused", "---")] == list(MISTAKES)
    environ = {
        "TOKEN_SERVICE_CONFIG_FILE": "service.toml",
        "TOKEN_SERVICE_DATABASE_URL": deployment.database_url,
        "TOKEN_SERVICE_REDIS_URL": deployment.redis_url,
    }

    def problem_of(mistake: Mistake) -> str:
        copy = tmp_path / "copy"
        shutil.copytree(deployment.directory, copy)
        monkeypatch.chdir(copy)
        file = copy / mistake.file
        text = file.read_text()
        changed = re.sub(mistake.pattern, mistake.replacement, text) if mistake.pattern else text
        assert bool(mistake.pattern) == (changed != text), mistake
        file.write_text(changed)
        file.chmod(mistake.mode)
        env = {name: value for name, value in {**environ, **(mistake.env or {})}.items() if value}
        try:
            asyncio.run(check(load_settings({}, env), env))
        except ConfigurationError as error:
            return error.message
        finally:
            shutil.rmtree(copy)
        return ""

    assert problem_of(Mistake("")) == ""
    for row, mistakes in MISTAKES.items():
        for mistake in mistakes:
            assert mistake.message in problem_of(mistake), (row, mistake)


def test_release_0_1_0_refuses_the_files_of_this_version(deployment: Deployment, tmp_path: Path) -> None:
    (wheel,) = ROOT.glob("tests/releases/0.1.0/*.whl")
    with zipfile.ZipFile(wheel) as package:
        package.extractall(tmp_path / "release")
    # `sys.path[0]` of a script is its directory: the package beside it wins over the installed one.
    launcher = tmp_path / "release" / "run_release.py"
    launcher.write_text("from token_service.__main__ import main\nmain()\n")
    directory = tmp_path / "deployment"
    shutil.copytree(deployment.directory, directory)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}

    def problems() -> str:
        done = subprocess.run(
            [sys.executable, launcher, "config", "--config", "service.toml"],
            cwd=directory, env={**inherited, "TOKEN_SERVICE_DATABASE_URL": deployment.database_url},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 2 or not done.stderr, done.stderr
        return done.stderr

    refused = problems()
    settings = directory / "service.toml"
    text = settings.read_text()
    for name in ("audit_key_file", "grpc_token_address", "http_tls"):
        assert f"the unknown key {name}" in refused
        text = re.sub(rf"^{name} = .*\n", "", text, flags=re.MULTILINE)
    settings.write_text(re.sub(r"^require_registered_clients = .*\n", "", text, flags=re.MULTILINE))
    policy = directory / "policy.toml"
    caller = '[callers."spiffe://example.org/login"]\npermissions = ["issue"]\n'
    for addition in (
        "unbounded = true\n",
        'rates = { issue = "1/1s" }\n',
        '[[callers."spiffe://example.org/login".rights]]\npermission = "issue"\nclients = ["web"]\n',
        '[workload_issuers.mesh]\ntrust_domain = "example.org"\naudience = "a"\nkeys = "file:mesh.jwks"\n',
    ):
        policy.write_text(caller + addition)
        assert "no such setting" in problems(), addition
    policy.write_text(caller)
    assert problems() == ""
