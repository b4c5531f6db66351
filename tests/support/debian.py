"""Programs from Debian's archive, for tests on a machine that has apt but lacks the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.support.locks import locked

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

    `parts` are packages; empty: those that an installation would install on this machine. The second value describes the failure; empty for success.
    """
    if shutil.which("apt-get") is None:
        return None, "apt-get is missing"
    directory = cache(name)
    with locked(directory / "lock", f"the Debian package {package}"):
        if (found := look()) is not None:
            return found, ""
        problem = _install(package) if os.geteuid() == 0 else ""
        if problem or os.geteuid() != 0:
            problem = _unpack(directory, package, parts) or problem
        return look(), problem.strip() or "the installed files are not at the expected place"


def _install(package: str) -> str:
    """Install a package and return a description of the failure; empty for success."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    return _run(install) and (_run(["apt-get", "update"]) or _run(install))


def _unpack(directory: Path, package: str, parts: Sequence[str]) -> str:
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        problem = _download(Path(scratch), (), package, parts)
        if problem:  # no package lists, as in a fresh container: fetch our own
            state = Path(scratch) / "apt"
            (state / "lists" / "partial").mkdir(parents=True)
            own = ("-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={state}")
            problem = _run(["apt-get", *own, "update"]) or _download(Path(scratch), own, package, parts)
        for archive in Path(scratch).glob("*.deb"):
            problem = problem or _run(["dpkg", "-x", str(archive), str(directory)])
    return problem


def _download(directory: Path, options: Sequence[str], package: str, parts: Sequence[str]) -> str:
    """Download packages and return a description of the failure; empty for success."""
    if not parts:
        plan = ["apt-get", *options, "--simulate", "--no-install-recommends", "install", package]
        done = subprocess.run(plan, capture_output=True, text=True, timeout=300, check=False)
        parts = re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE)
        if done.returncode != 0:
            return done.stderr.strip()[-500:]
    return _run(["apt-get", *options, "download", *parts], directory)


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
