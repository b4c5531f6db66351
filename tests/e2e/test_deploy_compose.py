"""deploy/compose.yaml: read by Docker Compose, and its nodes run as processes with its commands, settings and secrets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
import redis
import yaml

from tests.e2e.new_clients import issued_once_known
from tests.e2e.redis_page import rules
from tests.integration.nodes import assert_clean
from tests.support.compose import configuration
from tests.support.containers import ROOT, Container, Machine
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.postgres import PostgresServer
from tests.support.redis import find_redis
from token_service.v1.token_service_pb2 import (
    CONSISTENCY_STRONG,
    InvalidReason,
    IssueTokenRequest,
    RevokeTokenRequest,
    ValidateTokenRequest,
)
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

DEPLOY = ROOT / "deploy"
OURS = ("migrate", "node-1", "node-2")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of deploy/ after the one command of its first lines."""
    copy = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns("secrets", ".env", "kubernetes"))
    subprocess.run([copy / "compose" / "make-secrets"], check=True, timeout=120, capture_output=True)
    return copy


@pytest.fixture(scope="module")
def composed(checkout: Path) -> dict[str, Any]:
    return configuration(checkout / "compose.yaml")


def container(composed: Mapping[str, Any], name: str) -> Container:
    service = composed["services"][name]
    mounts = {
        each["target"]: Path(each["source"]) for each in service.get("volumes", ()) if each["type"] == "bind"
    }
    for secret in service.get("secrets", ()):
        mounts[secret["target"]] = Path(composed["secrets"][secret["source"]]["file"])
    return Container(service["command"], service.get("environment", {}), mounts)


def test_each_service_is_confined(composed: Mapping[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert "privileged" not in service, name


def test_only_loopback_is_published_and_storage_has_no_way_out(composed: Mapping[str, Any]) -> None:
    published = {
        port["published"]: (name, port["host_ip"])
        for name, service in composed["services"].items()
        for port in service.get("ports", ())
    }
    assert {host for _, host in published.values()} == {"127.0.0.1"}
    assert {name for name, _ in published.values()} == {"node-1", "node-2", "prometheus", "grafana"}
    assert composed["networks"]["data"]["internal"] is True
    for name in ("postgres", "redis"):
        assert set(composed["services"][name]["networks"]) == {"data"}


def test_nodes_start_after_the_migration_and_the_rest_after_them(composed: Mapping[str, Any]) -> None:
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in composed["services"][name]["depends_on"].items()}

    assert waits("migrate") == {"postgres": "service_healthy"}
    assert waits("node-1") == {"migrate": "service_completed_successfully", "redis": "service_healthy"}
    assert waits("node-2") == waits("node-1")
    assert waits("prometheus") == {"node-1": "service_healthy", "node-2": "service_healthy"}
    assert waits("grafana") == {"prometheus": "service_healthy"}


def test_no_secret_is_in_the_environment_or_readable_by_others(
    checkout: Path, composed: Mapping[str, Any]
) -> None:
    files = [*(checkout / "compose" / "secrets").iterdir()]
    assert len(files) == 18
    secrets = [each.read_text().strip() for each in files if not each.name.endswith(".pem")]
    for name, service in composed["services"].items():
        for value in service.get("environment", {}).values():
            assert not any(secret in value for secret in secrets), name
        owner = f"{files[0].stat().st_uid}:{files[0].stat().st_gid}"
        assert service.get("user") == (None if name == "prometheus" else owner), name
    assert {oct(each.stat().st_mode & 0o777) for each in files} == {"0o600"}


def test_secrets_stay_when_they_are_made_again(checkout: Path) -> None:
    directory = checkout / "compose" / "secrets"
    before = {each.name: each.read_bytes() for each in directory.iterdir()}
    subprocess.run([checkout / "compose" / "make-secrets"], check=True, timeout=120, capture_output=True)
    assert {each.name: each.read_bytes() for each in directory.iterdir()} == before


def test_certificate_that_ends_soon_is_renewed_in_the_same_file(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "deploy"
    shutil.copytree(checkout, copy)
    directory = copy / "compose" / "secrets"
    before = {each.name: (each.read_bytes(), each.stat().st_ino) for each in directory.iterdir()}
    subprocess.run(
        ["openssl", "x509", "-req", "-in", "/dev/stdin", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "29", "-out", "server.pem"],
        input=subprocess.run(
            ["openssl", "req", "-new", "-key", "server.key", "-subj", "/CN=server"], cwd=directory, check=True, capture_output=True
        ).stdout,
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run([copy / "compose" / "make-secrets"], check=True, timeout=120, capture_output=True)
    after = {each.name: (each.read_bytes(), each.stat().st_ino) for each in directory.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"server.key", "server.pem"}
    assert after["server.pem"][1] == before["server.pem"][1], (
        "a container that has the file mounted sees the change"
    )
    shown = subprocess.run(
        ["openssl", "x509", "-in", "server.pem", "-noout", "-ext", "subjectAltName"],
        cwd=directory, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "DNS:localhost, DNS:node-1, DNS:node-2, IP Address:127.0.0.1" in shown


def test_prometheus_and_grafana_find_their_files(checkout: Path, composed: Mapping[str, Any]) -> None:
    prometheus = container(composed, "prometheus")
    configured = next(word for word in prometheus.arguments if word.startswith("--config.file="))
    assert configured == "--config.file=/etc/prometheus/prometheus.yml"
    scraping = yaml.safe_load((prometheus.mounts["/etc/prometheus"] / "prometheus.yml").read_text())
    for each in scraping["rule_files"]:
        assert (prometheus.mounts["/etc/prometheus"] / each).exists()
    targets = [
        each
        for job in scraping["scrape_configs"]
        for some in job["static_configs"]
        for each in some["targets"]
    ]
    port = composed["services"]["node-1"]["environment"]["TOKEN_SERVICE_METRICS_ADDRESS"].rpartition(":")[2]
    assert targets == [f"node-1:{port}", f"node-2:{port}"]

    grafana = container(
        {**composed, "services": {"grafana": {"command": [], **composed["services"]["grafana"], "secrets": []}}}, "grafana"
    )  # fmt: skip
    provisioning = grafana.mounts["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "token-service.yaml").read_text())[
        "providers"
    ]
    assert list(grafana.mounts[provider["options"]["path"]].glob("*.json"))


class Stack:
    """The storage of the file, and its nodes with the commands of their services."""

    def __init__(self, checkout: Path, composed: Mapping[str, Any], scratch: Path) -> None:
        self.composed = composed
        self.secrets = checkout / "compose" / "secrets"
        self.machine = Machine(scratch)
        self.scratch = scratch
        self.ports = {
            name: free_port() for name in ("redis", *self.addresses("node-1"), *self.addresses("node-2"))
        }
        self.postgres = PostgresServer()
        self.nodes: dict[str, ManagedProcess] = {}

    @staticmethod
    def addresses(node: str) -> dict[str, str]:
        """Return the names of the ports of a node, with the addresses that they have in its container."""
        return {f"{node}:{port}": f"0.0.0.0:{port}" for port in (50051, 50052, 8080, 9464)}

    def mapped(self, node: str) -> dict[str, str]:
        return {inside: f"127.0.0.1:{self.ports[name]}" for name, inside in self.addresses(node).items()}

    def start(self) -> None:
        self._start_postgres()
        self._start_redis()
        migrate = self.machine.start("migrate", container(self.composed, "migrate"), self.mapped("node-1"))
        assert migrate.wait(120) == 0, migrate.log_text()
        assert re.search(r"is at schema \d{4}$", migrate.log_text().strip())
        for name in ("node-1", "node-2"):
            self.nodes[name] = self.machine.start(name, container(self.composed, name), self.mapped(name))
        for name in ("node-1", "node-2"):
            eventually_sync(lambda name=name: self.healthy(name), timeout=90, interval=0.5)  # type: ignore[misc]

    def healthy(self, name: str) -> bool:
        kind, *command = self.composed["services"][name]["healthcheck"]["test"]
        assert kind == "CMD"
        assert self.nodes[name].running, self.nodes[name].log_text()
        return (
            self.machine.execute(f"{name}-health", command, container(self.composed, name), self.mapped(name))
            == 0
        )

    def _start_postgres(self) -> None:
        """Start a server with the user, the password and the database that the image would make of its variables."""
        self.postgres.start()
        service = container({**self.composed, "services": {"postgres": {"command": [], **self.composed["services"]["postgres"], "volumes": []}}}, "postgres")  # fmt: skip
        user = service.environment["POSTGRES_USER"]
        password = service.mounts[service.environment["POSTGRES_PASSWORD_FILE"]].read_text().strip()

        async def prepare() -> None:
            connection = await asyncpg.connect(self.postgres.admin_url)
            await connection.execute(f'CREATE DATABASE "{user}"')
            await connection.execute(f"ALTER ROLE \"{user}\" PASSWORD '{password}'")
            await connection.close()

        asyncio.run(prepare())
        self._point("database-url", "@postgres:5432/", f"@127.0.0.1:{self.postgres.port}/")

    def _start_redis(self) -> None:
        service = self.composed["services"]["redis"]
        assert service["command"][0] == "redis-server"
        users = self.secrets / "redis-users.acl"
        words = [
            str(users) if word == "/run/secrets/redis-users.acl" else word for word in service["command"][1:]
        ]
        port = self.ports["redis"]
        self.redis = ManagedProcess(
            [find_redis(), *words, "--port", str(port), "--bind", "127.0.0.1", "--dir", self.scratch],
            log=self.scratch / "redis.log",
        )
        self._point("redis-url", "@redis:6379/", f"@127.0.0.1:{port}/")
        eventually_sync(lambda: self._redis_answers(port), timeout=30)

    @staticmethod
    def _redis_answers(port: int) -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return bool(redis.Redis(port=port).ping())
        return False

    def _point(self, secret: str, name: str, here: str) -> None:
        file = self.secrets / secret
        assert name in file.read_text()
        file.write_text(file.read_text().replace(name, here))

    def close(self) -> None:
        self.machine.close()
        self.redis.kill()
        self.postgres.close()
        for port in self.ports.values():
            release_port(port)

    def channel(self, node: str, caller: str) -> grpc.Channel:
        key, certificate = ((self.secrets / f"{caller}.{end}").read_bytes() for end in ("key", "pem"))
        tls = grpc.ssl_channel_credentials((self.secrets / "ca.pem").read_bytes(), key, certificate)
        return grpc.secure_channel(self.mapped(node)["0.0.0.0:50051"], tls)


@pytest.fixture(scope="module")
def stack(
    checkout: Path, composed: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    copy = tmp_path_factory.mktemp("stack")
    shutil.copytree(checkout, copy / "deploy")
    made = Stack(copy / "deploy", configuration(copy / "deploy" / "compose.yaml"), copy)
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_client_of_a_command_in_one_node_gets_tokens_that_the_other_refuses_once_revoked(
    stack: Stack,
) -> None:
    create = [
        "token-service",
        "clients",
        "create",
        "--client-id",
        "web",
        "--grant-type",
        "authorization_code",
    ]
    create += ["--redirect-uri", "https://app.example.org/cb"]
    node = container(stack.composed, "node-2")
    assert stack.machine.execute("exec", create, node, stack.mapped("node-2")) == 0
    request = IssueTokenRequest(subject="alice", client_id="web", audience=["https://api.example.org"])
    with stack.channel("node-1", "login") as channel:
        issued = issued_once_known(TokenServiceStub(channel), request)
    with stack.channel("node-1", "operator") as channel:
        TokenServiceStub(channel).RevokeToken(RevokeTokenRequest(token=issued.access_token), timeout=30)
    with stack.channel("node-2", "gateway") as channel:
        answer = TokenServiceStub(channel).ValidateToken(
            ValidateTokenRequest(token=issued.access_token, consistency=CONSISTENCY_STRONG), timeout=30
        )
    assert (answer.active, answer.reason) == (False, InvalidReason.INVALID_REASON_REVOKED)


def test_user_of_redis_has_the_rules_of_the_documentation(checkout: Path) -> None:
    users = (checkout / "compose" / "secrets" / "redis-users.acl").read_text().splitlines()
    (given,) = (line.split() for line in users if line.startswith("user token_service "))
    documented = {rule for rule in rules("acl") if not rule.startswith(">")}
    password = (checkout / "compose" / "secrets" / "redis-password").read_text().strip()
    assert set(given[2:]) == {*documented, f">{password}", "resetchannels", "-@all"}


def test_redis_lets_the_nodes_work_and_others_only_ask_for_health(stack: Stack) -> None:
    stranger = redis.Redis(port=stack.ports["redis"])
    assert stranger.ping()
    with pytest.raises(redis.exceptions.NoPermissionError):
        stranger.get("token_service:epoch")
    node = redis.Redis.from_url((stack.secrets / "redis-url").read_text().strip())
    eventually_sync(lambda: node.get("token_service:epoch"), timeout=30)
    for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("SET", "other", "1"), ("ACL", "LIST")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            node.execute_command(*command)


def test_both_nodes_have_metrics_and_answer_over_tls(stack: Stack) -> None:
    trusted = ssl.create_default_context(cafile=stack.secrets / "ca.pem")
    for name in ("node-1", "node-2"):
        with urllib.request.urlopen(
            f"http://{stack.mapped(name)['0.0.0.0:9464']}/metrics", timeout=30
        ) as page:
            assert b"token_service_workers" in page.read()
        keys = f"https://{stack.mapped(name)['0.0.0.0:8080']}/.well-known/jwks.json"
        with urllib.request.urlopen(keys, timeout=30, context=trusted) as answer:
            assert b'"ES256"' in answer.read()


def test_every_setting_is_known_and_the_nodes_end_in_order(stack: Stack) -> None:
    for name, process in stack.nodes.items():
        for problem in ("is not a setting", "is unavailable"):
            assert problem not in process.log_text(), name
        assert process.terminate(30) == 0, name
        assert_clean(process.log_text())
