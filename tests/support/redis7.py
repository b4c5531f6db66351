"""Redis 7 with TLS and Sentinel: from PATH, or from Debian's package. The wheel of the other tests has 6.2 without TLS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.support import debian

_CACHE = "redis"
_PACKAGE = "redis-tools"
"""It has the server under the name redis-check-rdb, and starts no service, unlike the package of the server."""
_OLDEST = 7


@cache
def find_redis_7() -> Path:
    """Return the server, installing it if possible. Raise `RuntimeError` that says what to install."""
    on_path = shutil.which("redis-server")
    if on_path is not None and _major(Path(on_path)) >= _OLDEST:
        return Path(on_path)
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, _PACKAGE, (), _present)
    if found is None:
        raise RuntimeError(
            f"Redis {_OLDEST} is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install redis-server | dnf install redis | brew install redis"
        )
    return found


def libraries() -> dict[str, str]:
    """Return the environment that finds the libraries of an unpacked package."""
    paths = [str(path) for path in debian.cache(_CACHE).glob("usr/lib/*-linux-*")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(paths)} if paths else dict(os.environ)


def _present() -> Path | None:
    """Return the server of the package: one program that reads from its name what to be."""
    directory = debian.cache(_CACHE)
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{directory}/usr/bin"))
    program = shutil.which("redis-check-rdb", path=places)
    if program is None:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    server, new = directory / "redis-server", directory / f"redis-server-{os.getpid()}"
    new.unlink(missing_ok=True)
    new.symlink_to(Path(program).resolve())
    new.replace(server)
    return server if _major(server) >= _OLDEST else None


def _major(server: Path) -> int:
    """Return the major version; 0 if the program does not start."""
    try:
        done = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=30, check=False, env=libraries()
        )
    except OSError:
        return 0
    match = re.search(r"\bv=(\d+)", done.stdout)
    return int(match[1]) if match else 0
