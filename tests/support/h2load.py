"""h2load of nghttp2: loads a server over HTTP/1.1 or HTTP/2. From PATH, or from Debian's package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.support import debian

_CACHE = "nghttp2"
_PACKAGE = "nghttp2-client"


def find_h2load() -> Path:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, _PACKAGE, (), _present)
    if found is None:
        raise RuntimeError(
            f"h2load is needed and could not be installed ({problem}). "
            "Install it, for example: apt-get install nghttp2-client | brew install nghttp2"
        )
    return found


def _present() -> Path | None:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{debian.cache(_CACHE)}/usr/bin"))
    found = shutil.which("h2load", path=places)
    return Path(found) if found else None


def rate(url: str, authorization: str, *, seconds: int, connections: int = 8) -> float:
    """Return the number of 2xx responses per second, over HTTP/1.1. Fail if there was another response."""
    libraries = [str(path) for path in debian.cache(_CACHE).glob("usr/lib/*-linux-*")]
    done = subprocess.run(
        [
            find_h2load(),
            "--h1",
            f"--clients={connections}",
            f"--duration={seconds}",
            f"--header=authorization: {authorization}",
            url,
        ],
        env={"PATH": os.environ.get("PATH", os.defpath), "LD_LIBRARY_PATH": os.pathsep.join(libraries)},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    counts = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    assert counts is not None, done.stdout
    good, *others = (int(count) for count in counts.groups())
    assert good, done.stdout
    assert not any(others), done.stdout
    return good / seconds
