"""The pods of deploy/kubernetes as processes: migration, nodes, probes, and a gateway beside Envoy."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509

from tests.e2e.new_clients import issued_once_known
from tests.integration.nodes import assert_clean
from tests.integration.tour import DOCS, steps
from tests.support.certificates import Authority
from tests.support.containers import ROOT, Machine
from tests.support.deadline import eventually_sync
from tests.support.envoy import find_envoy
from tests.support.kubectl import find_kubectl, kustomize
from tests.support.managed import ManagedProcess
from tests.support.pods import Pod, template_of
from tests.support.ports import free_port, release_port
from tests.support.postgres import PostgresServer
from tests.support.processes import http_status
from tests.support.redis import RedisServer
from token_service.v1.token_service_pb2 import IssueTokenRequest, RevokeTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

KUBERNETES = ROOT / "deploy" / "kubernetes"
PAGE = DOCS / "deployment.md"
GRPC_NAME = "token-service-grpc.tokens.svc.cluster.local"
CONTAINER = "token-service"


def listening(*ports: int, host: str = "0.0.0.0") -> dict[str, str]:
    """Return free addresses for those that a container listens on."""
    return {f"{host}:{port}": f"127.0.0.1:{free_port()}" for port in ports}


def release(addresses: Mapping[str, str]) -> None:
    for address in addresses.values():
        release_port(int(address.rpartition(":")[2]))


class Deployed:
    """The production overlay: its job, and two of its nodes."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.machine = Machine(scratch / "machine")
        self.postgres = PostgresServer()
        self.redis = RedisServer()
        self.authority = Authority()
        self.addresses = [listening(50051, 50052, 8080, 9464) for _ in range(2)]
        self.nodes: list[ManagedProcess] = []
        self.pods: list[Pod] = []
        self.held_back = False

    def start(self) -> None:
        self.postgres.start()
        self.redis.start()
        self.resources = [*kustomize(KUBERNETES / "overlays" / "production"), *self._secrets()]
        template = template_of(self.resources, "Deployment", "token-service")
        self.pods = [Pod(self.resources, template, self.scratch / f"pod-{number}") for number in range(2)]

        waiting = [self._start(number, "schema") for number in range(2)]
        eventually_sync(lambda: all("has no schema" in each.log_text() for each in waiting), timeout=60)
        self.held_back = all(each.running for each in waiting)
        job = Pod(
            self.resources,
            template_of(self.resources, "Job", "token-service-migrate"),
            self.scratch / "job",
        )
        migration = self.machine.start("migrate", job.container(CONTAINER), self.addresses[0])
        assert migration.wait(120) == 0, migration.log_text()
        for each in waiting:
            assert each.wait(60) == 0, each.log_text()
        self.nodes = [self._start(number, CONTAINER) for number in range(2)]
        for number in range(2):
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                eventually_sync(lambda n=number, p=probe: self.probed(n, p), timeout=90)  # type: ignore[misc]

    def _start(self, number: int, name: str) -> ManagedProcess:
        return self.machine.start(
            f"{name}-{number}", self.pods[number].container(name), self.addresses[number]
        )

    def _secrets(self) -> list[Mapping[str, Any]]:
        """Return what the commands of the page make of the files of production.md."""
        directory = self.scratch / "files"
        directory.mkdir()
        names = (GRPC_NAME, "token-service.tokens.svc.cluster.local", "tokens.example.org", "localhost")
        server = self.authority.issue([x509.DNSName(name) for name in names])
        for name, content in (
            ("database-url", self.postgres.create_database().replace("+asyncpg", "").encode()),
            ("redis-url", self.redis.url.encode()),
            ("server.pem", server.certificate),
            ("server.key", server.key),
            ("ca.pem", self.authority.certificate),
        ):
            (directory / name).write_bytes(content)
        for name in ("key-encryption.key", "audit.key"):
            key = subprocess.run(
                ["openssl", "rand", "-base64", "32"], check=True, capture_output=True, timeout=60
            )
            (directory / name).write_bytes(key.stdout)
        commands = "\n".join(step.code for step in steps(PAGE.read_text(), "deployment"))
        alone = f'kubectl() {{ "{find_kubectl()}" "$@" --dry-run=client --output yaml; echo ---; }}\n'
        made = subprocess.run(
            ["bash", "-euc", alone + commands], cwd=directory, check=True, capture_output=True, text=True
        )
        return [each for each in yaml.safe_load_all(made.stdout) if each]

    def probed(self, number: int, probe: str) -> bool:
        """Ask as the kubelet does."""
        assert self.nodes[number].running, self.nodes[number].log_text()
        manifest = self.pods[number].manifest(CONTAINER)
        request = manifest[probe]["httpGet"]
        assert request["scheme"] == "HTTPS"
        (port,) = (each["containerPort"] for each in manifest["ports"] if each["name"] == request["port"])
        return http_status(self.addresses[number][f"0.0.0.0:{port}"], request["path"], tls=True) == 200

    def execute(self, number: int, *command: str) -> int:
        return self.machine.execute(
            "exec", command, self.pods[number].container(CONTAINER), self.addresses[number]
        )

    def stub(self, number: int, caller: str) -> TokenServiceStub:
        made = self.authority.caller(spiffe_id=f"spiffe://example.org/{caller}")
        tls = grpc.ssl_channel_credentials(self.authority.certificate, made.key, made.certificate)
        named = (("grpc.ssl_target_name_override", GRPC_NAME),)
        return TokenServiceStub(grpc.secure_channel(self.addresses[number]["0.0.0.0:50051"], tls, named))

    def close(self) -> None:
        self.machine.close()
        self.redis.close()
        self.postgres.close()
        for each in self.addresses:
            release(each)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    made = Deployed(tmp_path_factory.mktemp("pods"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_nodes_are_held_back_until_the_job_has_migrated(deployed: Deployed) -> None:
    assert deployed.held_back


def test_nodes_know_every_setting_and_their_storage(deployed: Deployed) -> None:
    for node in deployed.nodes:
        for problem in ("is not a setting", "is unavailable", "can be read by"):
            assert problem not in node.log_text()
    assert deployed.execute(0, "token-service", "nodes", "--help") == 0
    with urllib.request.urlopen(
        f"http://{deployed.addresses[1]['0.0.0.0:9464']}/metrics", timeout=30
    ) as page:
        assert b"token_service_workers" in page.read()


class Orders:
    """The pod of examples/orders: the gateway and a real Envoy."""

    def __init__(self, deployed: Deployed, scratch: Path) -> None:
        self.short = Path(tempfile.mkdtemp(prefix="orders-"))  # the path of a socket has at most 107 bytes
        self.machine = Machine(scratch / "machine")
        self.addresses = listening(9190, host="127.0.0.1") | listening(8080)
        made = deployed.authority.caller(spiffe_id="spiffe://example.org/gateway")
        secret = {
            "kind": "Secret",
            "metadata": {"name": "token-gateway-tls"},
            "data": _encoded(
                {"tls.crt": made.certificate, "tls.key": made.key, "ca.crt": deployed.authority.certificate}
            ),
        }
        self.resources = [*kustomize(KUBERNETES / "examples" / "orders"), secret]
        node = deployed.addresses[1]["0.0.0.0:50051"]

        def adapt(text: str) -> str:
            for place, volume in (("/run/secrets/token-gateway", "token-gateway-tls"), ("/run/token-gateway", "token-gateway")):  # fmt: skip
                text = text.replace(f"{place}/", f"{self.short / 'pod' / volume}/")
            text = text.replace(f'"dns:///{GRPC_NAME}:50051"', f'"{node}"\nserver_name = "{GRPC_NAME}"')
            port = self.addresses["0.0.0.0:8080"].rpartition(":")[2]
            return text.replace("127.0.0.1:9190", self.addresses["127.0.0.1:9190"]).replace(
                "address: 0.0.0.0, port_value: 8080", f"address: 127.0.0.1, port_value: {port}"
            )

        template = template_of(self.resources, "Deployment", "orders")
        self.pod = Pod(self.resources, template, self.short / "pod", adapt)

    def start(self) -> None:
        manifest = self.pod.manifest("token-gateway")
        assert manifest["restartPolicy"] == "Always", "a sidecar"
        gateway = self.pod.container("token-gateway")
        self.gateway = self.machine.start("gateway", gateway, self.addresses)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = manifest[probe]["exec"]["command"]
            eventually_sync(
                lambda c=command: self.machine.execute("probe", c, gateway, self.addresses) == 0,  # type: ignore[misc]
                timeout=90, interval=0.5,
            )  # fmt: skip
        envoy = self.pod.container("envoy")
        words = [
            str(envoy.mounts["/etc/envoy"] / "envoy.yaml") if word == "/etc/envoy/envoy.yaml" else word
            for word in envoy.arguments
        ]
        options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
        self.envoy = ManagedProcess([find_envoy(), *words, *options], log=self.short / "envoy.log")
        eventually_sync(
            lambda: http_status(self.addresses["0.0.0.0:8080"], "/healthz", timeout=5) == 200, timeout=60
        )

    def get(self, path: str, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://{self.addresses['0.0.0.0:8080']}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def close(self) -> None:
        self.machine.close()
        if hasattr(self, "envoy"):
            self.envoy.kill()
        shutil.rmtree(self.short, ignore_errors=True)
        release(self.addresses)


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    from base64 import b64encode

    return {name: b64encode(content).decode() for name, content in files.items()}


def test_gateway_beside_envoy_refuses_a_revoked_token(deployed: Deployed, tmp_path: Path) -> None:
    create = [
        "token-service",
        "clients",
        "create",
        "--client-id",
        "web",
        "--grant-type",
        "authorization_code",
    ]
    assert deployed.execute(0, *create, "--redirect-uri", "https://app.example.org/cb") == 0
    request = IssueTokenRequest(
        subject="alice", client_id="web", audience=["https://api.example.org"], scopes=["orders:read"]
    )
    token = issued_once_known(deployed.stub(0, "login"), request).access_token
    orders = Orders(deployed, tmp_path)
    try:
        orders.start()
        assert orders.get("/orders/1") == 401
        assert orders.get("/orders/1", token) == 200
        deployed.stub(0, "operator").RevokeToken(RevokeTokenRequest(token=token), timeout=30)
        eventually_sync(lambda: orders.get("/orders/1", token) == 401, timeout=30)
        assert_clean(orders.gateway.log_text())
        assert orders.gateway.terminate(30) == 0
    finally:
        orders.close()


def test_nodes_end_within_the_grace_of_their_pod(deployed: Deployed) -> None:
    for number, node in enumerate(deployed.nodes):
        spec = deployed.pods[number].spec
        before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert node.terminate(spec["terminationGracePeriodSeconds"] - before) == 0
        assert_clean(node.log_text())


def test_development_runs_without_anything_else(tmp_path: Path) -> None:
    resources: Sequence[Mapping[str, Any]] = kustomize(KUBERNETES / "overlays" / "development")
    assert not [each for each in resources if each["kind"] in {"Service", "Secret", "Job"}]
    pod = Pod(resources, template_of(resources, "Deployment", "token-service"), tmp_path / "pod")
    addresses = listening(50051, 8080, host="127.0.0.1")
    machine = Machine(tmp_path / "machine")
    try:
        node = machine.start("node", pod.container(CONTAINER), addresses)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = pod.manifest(CONTAINER)[probe]["exec"]["command"]
            eventually_sync(
                lambda c=command: machine.execute("probe", c, pod.container(CONTAINER), addresses) == 0,  # type: ignore[misc]
                timeout=90, interval=0.5,
            )  # fmt: skip
        request = IssueTokenRequest(subject="alice", client_id="web", audience=["api"])
        with grpc.insecure_channel(addresses["127.0.0.1:50051"]) as channel:
            assert TokenServiceStub(channel).IssueToken(request, timeout=30).access_token
        assert (pod.volumes["data"] / "token_service.db").exists()
        assert node.terminate(pod.spec["terminationGracePeriodSeconds"]) == 0
        assert not re.search("is not a setting", node.log_text())
    finally:
        machine.close()
        release(addresses)
