"""Pods of a kustomization as plain processes."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.containers import Container

Resource = Mapping[str, Any]


class Pod:
    """A pod on this machine: the files of its volumes, and its containers.

    `adapt` changes the text of files of ConfigMaps, for paths and addresses in them.
    """

    def __init__(
        self,
        resources: Sequence[Resource],
        template: Resource,
        directory: Path,
        adapt: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._resources = resources
        self.spec: Mapping[str, Any] = template["spec"]
        self.volumes = {each["name"]: directory / each["name"] for each in self.spec["volumes"]}
        for volume in self.spec["volumes"]:
            own = self.volumes[volume["name"]]
            own.mkdir(parents=True)
            if "secret" in volume:
                data = self._find("Secret", volume["secret"]["secretName"])["data"]
                for name, content in data.items():
                    (own / name).touch(0o600)
                    (own / name).write_bytes(b64decode(content))
            elif "configMap" in volume:
                for name, text in self._find("ConfigMap", volume["configMap"]["name"])["data"].items():
                    (own / name).write_text(adapt(text))

    def manifest(self, name: str) -> Resource:
        """Return a container as its manifest describes it."""
        all_of_them = [*self.spec.get("initContainers", ()), *self.spec["containers"]]
        found: Resource
        (found,) = (each for each in all_of_them if each["name"] == name)
        return found

    def container(self, name: str) -> Container:
        """Return a container to start."""
        found = self.manifest(name)
        variables: dict[str, str] = {}
        for source in found.get("envFrom", ()):
            variables |= self._find("ConfigMap", source["configMapRef"]["name"])["data"]
        variables |= {pair["name"]: pair["value"] for pair in found.get("env", ())}
        mounts = {mount["mountPath"]: self.volumes[mount["name"]] for mount in found.get("volumeMounts", ())}
        return Container(found.get("args", ()), variables, mounts)

    def _find(self, kind: str, name: str) -> Resource:
        (found,) = (
            each for each in self._resources if (each["kind"], each["metadata"]["name"]) == (kind, name)
        )
        return found


def template_of(resources: Sequence[Resource], kind: str, name: str) -> Resource:
    """Return the pod template of a deployment or a job."""
    (found,) = (each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name))
    template: Resource = found["spec"]["template"]
    return template
