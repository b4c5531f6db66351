"""Programs from Debian's archive, for tests on a machine that has apt but lacks the program."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


def cache(name: str) -> Path:
    """Return the directory for the unpacked packages of `name`. Paths in it are those of the packages."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "token-service-tests" / name


def fetch(
    name: str, package: str, parts: Sequence[str], look: Callable[[], T | None]
) -> tuple[T | None, str]:
    """Install `package`, or unpack `parts` without the right to install, and return the result of `look`.

    The second value describes the failure; empty for success.
    """
    if shutil.which("apt-get") is None:
        return None, "apt-get is missing"
    directory = cache(name)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (found := look()) is not None:
            return found, ""
        problem = _install(package) if os.geteuid() == 0 else ""
        if problem or os.geteuid() != 0:
            problem = _unpack(directory, parts) or problem
        return look(), problem.strip() or "the installed files are not at the expected place"


def _install(package: str) -> str:
    """Install a package and return a description of the failure; empty for success."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    return _run(install) and (_run(["apt-get", "update"]) or _run(install))


def _unpack(directory: Path, packages: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        download = ["download", *packages]
        problem = _run(["apt-get", *download], Path(scratch))
        if problem:  # no package lists, as in a fresh container: fetch our own
            state = Path(scratch) / "apt"
            (state / "lists" / "partial").mkdir(parents=True)
            own = ["apt-get", "-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state}"]
            problem = _run([*own, "update"]) or _run([*own, *download], Path(scratch))
        for archive in Path(scratch).glob("*.deb"):
            problem = problem or _run(["dpkg", "-x", str(archive), str(directory)])
    return problem


def _run(command: Sequence[str], directory: Path | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip()[-500:]}"
