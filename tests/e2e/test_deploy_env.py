"""deploy/service.env.example: a node of production starts with it, once its placeholders are filled and its files exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from tests.e2e.new_clients import issued_once_known
from tests.integration.nodes import assert_clean
from tests.support.certificates import Authority
from tests.support.containers import ROOT, Container, Machine
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.processes import http_status
from token_service.config import SETTINGS
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

EXAMPLE = ROOT / "deploy" / "service.env.example"
PLACE = "/etc/token-service"


def variables() -> dict[str, str]:
    """Return the variables as systemd and docker read them: without a shell."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"TOKEN_SERVICE_[A-Z_]+=[^\s\"'$\\]+", line) for line in lines)
    return dict(line.split("=", 1) for line in lines)


def test_every_name_is_a_setting_and_has_a_comment() -> None:
    known = {setting.variable for setting in SETTINGS}
    named = re.findall(r"^#? ?(TOKEN_SERVICE_[A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert set(named) <= known
    assert len(named) == len(set(named))
    for paragraph in EXAMPLE.read_text().strip().split("\n\n"):
        assert paragraph.startswith("# "), paragraph


def test_example_has_every_required_setting_and_no_secret() -> None:
    secret = {setting.variable for setting in SETTINGS if setting.secret}
    assert not secret & set(variables())


@pytest.fixture
def files(tmp_path: Path, postgres_url: str, redis_server: str) -> tuple[Path, Authority]:
    """The directory of the files that the example names, made as its comments say."""
    directory = tmp_path / "files"
    directory.mkdir()
    authority = Authority()
    server = authority.server()
    for name, content in {
        "server.pem": server.certificate,
        "server.key": server.key,
        "ca.pem": authority.certificate,
        "database-url": postgres_url.replace("+asyncpg", "").encode(),
        "redis-url": redis_server.encode(),
        **{
            name: subprocess.run(
                ["openssl", "rand", "-base64", "32"], check=True, capture_output=True, timeout=60
            ).stdout
            for name in ("key-encryption.key", "audit.key")
        },
    }.items():
        (directory / name).touch(0o600)
        (directory / name).write_bytes(content)
    shutil.copy(ROOT / "deploy" / "compose" / "policy" / "policy.toml", directory)
    return directory, authority


@pytest.fixture
def addresses() -> Iterator[Mapping[str, str]]:
    listening = [value for name, value in variables().items() if name.endswith("_ADDRESS")]
    free = {address: f"127.0.0.1:{free_port()}" for address in listening}
    yield free
    for address in free.values():
        release_port(int(address.rpartition(":")[2]))


def test_node_starts_with_it(
    tmp_path: Path, files: tuple[Path, Authority], addresses: Mapping[str, str]
) -> None:
    directory, authority = files
    filled = {name: re.sub(r"<(.*?)>", r"\1", value) for name, value in variables().items()}
    machine = Machine(tmp_path / "machine")

    def container(*arguments: str) -> Container:
        return Container(arguments, filled, {PLACE: directory})

    def run(name: str) -> ManagedProcess:
        return machine.start(name, container(name), addresses)

    try:
        for name in ("config", "migrate"):
            process = run(name)
            assert process.wait(120) == 0, process.log_text()
        assert "https://tokens.example.org" in (tmp_path / "machine" / "config" / "log").read_text()
        node = run("serve")
        https = addresses["0.0.0.0:8080"]
        eventually_sync(lambda: http_status(https, "/readyz", tls=True) == 200, timeout=90)
        create = "clients create --client-id web --grant-type authorization_code --redirect-uri https://app.example.org/cb"
        assert machine.execute("exec", ["token-service", *create.split()], container(), addresses) == 0
        made = authority.caller(spiffe_id="spiffe://example.org/login")
        tls = grpc.ssl_channel_credentials(authority.certificate, made.key, made.certificate)
        with grpc.secure_channel(addresses["0.0.0.0:50051"], tls) as channel:
            request = IssueTokenRequest(subject="alice", client_id="web")
            assert issued_once_known(TokenServiceStub(channel), request).access_token
        assert len(node.children()) >= int(filled["TOKEN_SERVICE_WORKERS"])
        assert node.terminate(15) == 0
        for problem in ("is not a setting", "is unavailable", "can be read by"):
            assert problem not in node.log_text()
        assert_clean(node.log_text())
    finally:
        machine.close()
