"""The image has the tested versions and is built only from files with known hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINNED = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE
    )
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def locked(file: str) -> dict[str, str]:
    """Return names and versions of a lock file. Asserts that it has only entries with hashes."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    entry = re.compile(r"([\w.-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n")
    assert entry.sub("", text) == ""
    return {canonicalize_name(name): version for name, version, _ in entry.findall(text)}


def required(*extras: str) -> list[Requirement]:
    return [
        Requirement(line)
        for lines in (PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras))
        for line in lines
    ]


def test_image_has_the_tested_versions() -> None:
    versions = locked("requirements.txt")
    assert versions.items() <= PINNED.items(), "run scripts/lock"
    assert {canonicalize_name(each.name) for each in required("server", "hsm", "gateway")} <= versions.keys()


def test_build_requirements_of_image_have_hashes() -> None:
    assert "hatchling" in locked("requirements-build.txt")
    dockerfile = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"/pip install.*", dockerfile):
        assert "--require-hashes" in line or "--no-deps --no-index" in line


@pytest.mark.parametrize("extras", [(), ("server",), ("hsm",), ("bff",), ("gateway",), ("keyring",)])
def test_pinned_versions_satisfy_the_requirements(extras: tuple[str, ...]) -> None:
    for requirement in required(*extras):
        assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)]), requirement
