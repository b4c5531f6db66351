"""The name of the distribution. `token-service` on the public index is another project with the same import name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "grpc-token-service"
INSTALLS = re.compile(
    r"(?:pip3?|pipx|uv|poetry|pdm|conda)\s+(?:\w+\s+)*?(?:install|add|run)\s+(?:[-'\"\w.\[\],=<>~]+\s+)*?['\"]?(token[-_.]service)(?![\w/.])",
    re.IGNORECASE,
)
REQUIRES = re.compile(r"""["'\s](token[-_.]service)(?:\[[\w,\s-]+\])?\s*(?:[=~<>!]=|[<>])""")


def strangers(text: str) -> list[str]:
    """Return the lines that install the package of the other project."""
    return [match[0].strip() for pattern in (INSTALLS, REQUIRES) for match in pattern.finditer(text)]


def test_name_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == NAME
    assert distribution(NAME).version == distribution(NAME).metadata["Version"]


def test_no_file_installs_the_package_of_another_project() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if bad := strangers(text):
            found[name] = bad
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "pip install token-service",
        "pip install 'token-service[server]'",
        "python -m pip install --upgrade token_service",
        "uv add token-service",
        "uv pip install token.service",
        "dependencies = ['token-service>=0.1']",
        "\ntoken-service[server]==0.1.0\n",
    ],
)
def test_install_line_of_the_other_package_is_found(text: str) -> None:
    assert strangers(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install grpc-token-service",
        "pip install 'grpc-token-service[server]'",
        "pip install . && token-service serve",
        "/opt/token-service/bin/pip install --compile .",
        "docker run token-service",
    ],
)
def test_other_lines_pass(text: str) -> None:
    assert strangers(text) == []
