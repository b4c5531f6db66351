"""Tools in Python with dependencies of their own, each in its own environment. The versions are those of constraints.txt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import debian, wheels
from tests.support.locks import locked

_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def environment(package: str) -> Path:
    """Return the directory of the programs of an environment with `package`, which the first call makes."""
    pin = wheels.pin(package)
    directory = debian.cache(f"{pin}-python{sys.version_info.major}.{sys.version_info.minor}")
    with locked(directory / "lock", pin):
        if not (directory / "complete").exists():
            _run([sys.executable, "-m", "venv", "--clear", directory / "venv"])
            _run(
                [
                    directory / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
                    "--only-binary", ":all:", "--constraint", _CONSTRAINTS, pin,
                ]
            )  # fmt: skip
            (directory / "complete").touch()
    return directory / "venv" / "bin"


def distribution(package: str, *, source: bool = False) -> Path:
    """Return the wheel of `package` as a file, or with `source` its source archive, which the first call downloads."""
    pin = wheels.pin(package)
    directory = debian.cache(f"{pin}-file")
    kind = "--no-binary" if source else "--only-binary"
    with locked(directory / "lock", pin):
        if not (directory / "complete").exists():
            _run(
                [
                    sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    kind, ":all:" if not source else package, "--dest", directory / "files", pin,
                ]
            )  # fmt: skip
            (directory / "complete").touch()
    (found,) = (directory / "files").iterdir()
    return found


def _run(command: list[str | os.PathLike[str]]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
