"""deploy/kubernetes: built by kustomize, valid for Kubernetes, and consistent in itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import tools
from tests.support.containers import ROOT, Image
from tests.support.kubectl import kustomize

KUBERNETES = ROOT / "deploy" / "kubernetes"
EVERYTHING = "production with all components"
BUILDS = ("overlays/development", "overlays/production", "examples/orders", EVERYTHING)
OF_OPERATORS = {"PodMonitor", "PrometheusRule"}
"""Kinds that Kubernetes does not know."""
VERSIONS = ("1.30", "1.33", "1.37")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
Resource = Mapping[str, Any]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Sequence[Resource]]:
    """The resources of each kustomization that a user would apply."""
    own = tmp_path_factory.mktemp("own")

    def here(path: str) -> str:
        return os.path.relpath(KUBERNETES / path, own)

    (own / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "namespace": "tokens",
                "resources": [here("overlays/production")],
                "components": [here("components/monitoring"), here("components/outbound-https")],
            }
        )
    )
    return {name: kustomize(own if name == EVERYTHING else KUBERNETES / name) for name in BUILDS}


def of_kind(resources: Sequence[Resource], kind: str) -> dict[str, Resource]:
    return {each["metadata"]["name"]: each for each in resources if each["kind"] == kind}


def pods(resources: Sequence[Resource]) -> Iterator[tuple[str, Resource]]:
    """Yield the template of each pod with the kind of its owner."""
    for each in resources:
        if each["kind"] in {"Deployment", "Job"}:
            yield each["kind"], each["spec"]["template"]


def containers(template: Resource) -> list[Resource]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


def selects(selector: Resource, labels: Resource) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_manifests(
    built: Mapping[str, Sequence[Resource]], version: str, tmp_path: Path
) -> None:
    for name, resources in built.items():
        known = [each for each in resources if each["kind"] not in OF_OPERATORS]
        assert known
        file = tmp_path / f"{name.replace('/', '-')}.yaml"
        file.write_text(yaml.safe_dump_all(known))
        done = subprocess.run(
            [tools.environment("kubernetes-validate") / "kubernetes-validate", "--strict", "-k", version, file],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{name}:\n{said}"
        assert said.count("passed") == len(known), said


def test_a_wrong_field_is_refused(built: Mapping[str, Sequence[Resource]], tmp_path: Path) -> None:
    deployment = dict(of_kind(built["overlays/production"], "Deployment")["token-service"])
    deployment["spec"] = {**deployment["spec"], "replica": 3}
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(deployment))
    done = subprocess.run(
        [tools.environment("kubernetes-validate") / "kubernetes-validate", "--strict", "-k", "1.37", tmp_path / "wrong.yaml"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "replica" in done.stdout + done.stderr


@pytest.mark.parametrize("name", BUILDS)
def test_pods_meet_the_restricted_standard(built: Mapping[str, Sequence[Resource]], name: str) -> None:
    (namespace,) = of_kind(built[name], "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    found = list(pods(built[name]))
    assert found
    for _, template in found:
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for each in containers(template):
            own = each["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, each["name"]
            assert own["readOnlyRootFilesystem"] is True, each["name"]
            assert own["capabilities"] == {"drop": ["ALL"]}, each["name"]
            assert set(each["resources"]) == {"requests", "limits"}, each["name"]
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "secret", "configMap"}
            # The kubelet gives the files to root and to the group of `fsGroup`.
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
                assert spec["securityContext"]["fsGroup"] == 10001


@pytest.mark.parametrize("name", BUILDS)
def test_what_refers_to_a_name_finds_it(built: Mapping[str, Sequence[Resource]], name: str) -> None:
    resources = built[name]
    maps = set(of_kind(resources, "ConfigMap"))
    for _, template in pods(resources):
        volumes = {each["name"]: each for each in template["spec"]["volumes"]}
        for volume in volumes.values():
            assert volume.get("configMap", {"name": next(iter(maps))})["name"] in maps
        used = set()
        for each in containers(template):
            ports = {port["name"] for port in each.get("ports", ())}
            used |= {mount["name"] for mount in each.get("volumeMounts", ())}
            for source in each.get("envFrom", ()):
                assert source["configMapRef"]["name"] in maps
            for probe in PROBES:
                if "httpGet" in each.get(probe, {}):
                    assert each[probe]["httpGet"]["port"] in ports
        assert used == set(volumes)
    for service in of_kind(resources, "Service").values():
        (target,) = (
            template for _, template in pods(resources)
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        )  # fmt: skip
        named = {port["name"] for each in target["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    for deployment in of_kind(resources, "Deployment").values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert selects(deployment["spec"]["selector"], labels)


def test_production_survives_the_loss_of_a_machine_or_a_zone(
    built: Mapping[str, Sequence[Resource]],
) -> None:
    resources = built["overlays/production"]
    deployment = of_kind(resources, "Deployment")["token-service"]["spec"]
    template = deployment["template"]
    assert deployment["replicas"] == 3
    assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = of_kind(resources, "PodDisruptionBudget")["token-service"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert selects(budget["selector"], template["metadata"]["labels"])
    spread = {each["topologyKey"]: each for each in template["spec"]["topologySpreadConstraints"]}
    assert spread["kubernetes.io/hostname"]["whenUnsatisfiable"] == "DoNotSchedule"
    assert spread["topology.kubernetes.io/zone"]["whenUnsatisfiable"] == "ScheduleAnyway"
    for each in spread.values():
        assert selects(each["labelSelector"], template["metadata"]["labels"])
    (job,) = (each for kind, each in pods(resources) if kind == "Job")
    assert not selects(budget["selector"], job["metadata"]["labels"]), "a finished job is no node"


def test_network_policies_let_pass_what_the_service_needs(built: Mapping[str, Sequence[Resource]]) -> None:
    resources = built["overlays/production"]
    policies = {name: each["spec"] for name, each in of_kind(resources, "NetworkPolicy").items()}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for kind, template in pods(resources):
        labels = template["metadata"]["labels"]
        assert selects(policies["from-service"]["podSelector"], labels), kind
        assert selects(policies["to-nodes"]["podSelector"], labels) is (kind == "Deployment")
    out = {port["port"] for rule in policies["from-service"]["egress"] for port in rule["ports"]}
    assert out == {53, 5432, 6379}
    into = {port["port"] for rule in policies["to-nodes"]["ingress"] for port in rule["ports"]}
    (node,) = of_kind(resources, "Deployment")["token-service"]["spec"]["template"]["spec"]["containers"]
    assert into == {port["name"] for port in node["ports"]}
    for rules in (policies["to-nodes"]["ingress"], policies["from-service"]["egress"]):
        for rule in rules:
            assert rule.get("from") or rule.get("to"), "open to everything"
    shop = of_kind(built["examples/orders"], "Namespace")["shop"]["metadata"]["labels"]
    assert selects(policies["to-nodes"]["ingress"][0]["from"][0]["namespaceSelector"], shop)


def test_the_ports_are_those_of_the_settings(built: Mapping[str, Sequence[Resource]]) -> None:
    resources = built["overlays/production"]
    settings = of_kind(resources, "ConfigMap")["token-service-settings"]["data"]
    (node,) = of_kind(resources, "Deployment")["token-service"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in node["ports"]}
    for name, port in ports.items():
        variable = f"TOKEN_SERVICE_{name.replace('-', '_').upper()}_ADDRESS"
        assert settings[variable] == f"0.0.0.0:{port}"


def test_monitoring_has_the_rules_and_dashboards_of_the_repository(
    built: Mapping[str, Sequence[Resource]],
) -> None:
    resources = built[EVERYTHING]
    groups = [
        group
        for file in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / file).read_text())["groups"]
    ]
    assert of_kind(resources, "PrometheusRule")["token-service"]["spec"]["groups"] == groups, (
        "run scripts/gen-prometheus-rule"
    )
    dashboards = of_kind(resources, "ConfigMap")["token-service-dashboards"]
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["data"] == {
        each.name: each.read_text() for each in (ROOT / "deploy" / "grafana").glob("*.json")
    }
    monitor = of_kind(resources, "PodMonitor")["token-service"]["spec"]
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": job["job_name"]}]
    (node,) = (template for kind, template in pods(resources) if kind == "Deployment")
    assert selects(monitor["selector"], node["metadata"]["labels"])
    assert endpoint["port"] in {port["name"] for port in node["spec"]["containers"][0]["ports"]}


def test_pods_run_commands_of_the_image(built: Mapping[str, Sequence[Resource]]) -> None:
    assert Image().entry_point[-1] == "token-service"
    for name in BUILDS:
        for _, template in pods(built[name]):
            for each in containers(template):
                assert "command" not in each, "the entry point of the image stays, with its init"
