"""The command in an installation of the client library alone."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SERVER = [
    "aiosqlite",
    "alembic",
    "asyncpg",
    "click",
    "grpc_health",
    "grpc_reflection",
    "hiredis",
    "opentelemetry",
    "redis",
    "sqlalchemy",
    "starlette",
    "uvicorn",
    "uvloop",
]
"""Import names of the packages of the extra."""

_RUN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from {module} import {function}
sys.argv[0] = "token-service"
sys.exit({function}())
"""


def run(missing: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the entry point of the installed script in an interpreter that cannot import some packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["token-service"].partition(":")
    program = _RUN.format(missing=set(missing), module=module, function=function)
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["--version"], ["version"], ["serve"], ["keys", "list"]], ids=" ".join
)
def test_one_line_says_which_extra_is_missing(arguments: list[str]) -> None:
    done = run(SERVER, *arguments)
    assert done.stderr == (
        "token-service: the Python package 'click' is not installed. Without extras only the client library is installed;"
        " for this command: pip install 'grpc-token-service[server]'\n"
    )
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["serve"], "sqlalchemy"),
        (["migrate"], "alembic"),
        (["keys", "list"], "sqlalchemy"),
        (["log", "show"], "sqlalchemy"),
    ],
)
def test_missing_extra_is_named_although_click_is_installed(arguments: list[str], missing: str) -> None:
    done = run([name for name in SERVER if name != "click"], *arguments)
    (line,) = done.stderr.splitlines()
    assert line.startswith("token-service: the Python package ")
    assert line.endswith("pip install 'grpc-token-service[server]'")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the Python package {missing!r} is" in run([missing], *arguments).stderr


def test_gateway_needs_its_extra_and_no_other() -> None:
    of_gateway = {"click", "prometheus_client", "uvicorn", "uvloop"}
    done = run([name for name in SERVER if name not in of_gateway], "gateway", "--config", "missing.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.toml" in done.stderr
    for missing in ("prometheus_client", "click"):
        done = run([missing], "gateway", "--config", "missing.toml")
        assert done.returncode == 1
        assert f"the Python package {missing!r} is" in done.stderr
        assert done.stderr.endswith("pip install 'grpc-token-service[gateway]'\n")


def test_commands_of_the_base_installation_work() -> None:
    done = run([name for name in SERVER if name != "click"], "version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_missing_standard_library_module_is_not_blamed_on_extras() -> None:
    done = run(["ssl"], "serve")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "extra" not in done.stderr.splitlines()[-1]


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "token_service", "version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == run([], "version").stdout
