"""Containers of this project's image as plain processes, for manifests whose engine a machine lacks.

The entry point and the environment of the image come from the Dockerfile, arguments, variables and files from the manifest.
Only paths and addresses are translated, so a wrong name of a setting, a wrong argument or a missing file shows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.support import debian
from tests.support.managed import ManagedProcess

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Container:
    """What a manifest says about one container of the image."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    mounts: Mapping[str, Path]
    """Files and directories on this machine, by their place in the container."""


class Image:
    """The instructions of the Dockerfile that decide how its containers start."""

    def __init__(self, dockerfile: Path = ROOT / "Dockerfile") -> None:
        text = re.sub(r"^ *#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        stage = text[text.rindex("\nFROM ") :]
        self.entry_point: list[str] = json.loads(_last(stage, "ENTRYPOINT"))
        self.arguments: list[str] = json.loads(_last(stage, "CMD"))
        self.health_check: list[str] = json.loads(
            re.findall(r"^HEALTHCHECK .* CMD (.*)$", stage, re.MULTILINE)[-1]
        )
        self.environment = dict(
            pair.split("=", 1) for line in re.findall(r"^ENV (.*)$", stage, re.MULTILINE) for pair in line.split()
        )  # fmt: skip


def _last(stage: str, instruction: str) -> str:
    return str(re.findall(rf"^{instruction} (.*)$", stage, re.MULTILINE)[-1])


def find_tini() -> Path:
    """Return the init of the image: from PATH, or from Debian's package."""
    found, problem = _tini(), ""
    if found is None:
        found, problem = debian.fetch("tini", "tini", ("tini",), _tini)
    if found is None:
        raise RuntimeError(f"tini is needed for these tests and could not be installed ({problem})")
    return found


def _tini() -> Path | None:
    found = shutil.which("tini", path=f"{os.environ.get('PATH', os.defpath)}:{debian.cache('tini')}/usr/bin")
    return Path(found) if found else None


@cache
def _programs() -> Mapping[str, Path]:
    binaries = Path(sys.executable).parent
    return {"tini": find_tini(), "token-service": binaries / "token-service", "python": Path(sys.executable)}


class Machine:
    """Starts containers as processes.

    `addresses` replaces addresses of the containers' network, such as `0.0.0.0:50051`, in variables and arguments. The
    writable directories of a container are directories in `scratch`.
    """

    def __init__(self, scratch: Path, writable: Sequence[str] = ("/var/lib/token-service", "/tmp")) -> None:
        self._scratch = scratch
        self._writable = writable
        self._image = Image()
        self._running: list[ManagedProcess] = []

    def start(self, name: str, container: Container, addresses: Mapping[str, str]) -> ManagedProcess:
        """Start the entry point of the image with the arguments of the container."""
        arguments = container.arguments or self._image.arguments
        return self._start(name, [*self._image.entry_point, *arguments], container, addresses)

    def execute(
        self, name: str, command: Sequence[str], container: Container, addresses: Mapping[str, str]
    ) -> int:
        """Run a command in a container, as a probe or `exec` does, and return its exit code."""
        process = self._start(name, command, container, addresses)
        return process.wait(60)

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._running:
            process.kill()

    def _start(
        self, name: str, command: Sequence[str], container: Container, addresses: Mapping[str, str]
    ) -> ManagedProcess:
        own = self._scratch / name
        own.mkdir(parents=True, exist_ok=True)
        mounts = dict(container.mounts)
        for path in self._writable:
            mounts.setdefault(path, own / path.lstrip("/"))
            mounts[path].mkdir(parents=True, exist_ok=True)
        variables = {**self._image.environment, **container.environment}
        variables.pop("PATH")
        programs = _programs()
        process = ManagedProcess(
            [
                programs[word] if word in programs else _translated(word, mounts, addresses)
                for word in command
            ],
            log=own / "log",
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": "/nonexistent",
                **{key: _translated(value, mounts, addresses) for key, value in variables.items()},
            },
            cwd=own,
        )
        self._running.append(process)
        return process


def _translated(text: str, mounts: Mapping[str, Path], addresses: Mapping[str, str]) -> str:
    """Return a value with this machine's paths and addresses. Asserts that each path is in a mount and exists."""
    if text in addresses:
        return addresses[text]
    if not text.startswith("/") or text in {"/livez", "/readyz", "/startupz"}:
        return text
    for place in sorted(mounts, key=len, reverse=True):
        if text == place or text.startswith(f"{place}/"):
            translated = Path(f"{mounts[place]}{text.removeprefix(place)}")
            assert translated.exists(), f"{text} is not in what is mounted at {place}"
            return str(translated)
    raise AssertionError(f"no mount has {text}")
