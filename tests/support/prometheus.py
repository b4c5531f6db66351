"""A real Prometheus and promtool: from PATH, or from Debian's package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support import debian
from tests.support.processes import http_status
from tests.support.proxy_process import ProxyProcess

_CACHE = "prometheus"


def find(program: str) -> Path:
    """Return `prometheus` or `promtool`, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(program), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "prometheus", ("prometheus",), lambda: _present(program))
    if found is None:
        raise RuntimeError(
            f"{program} is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install prometheus | brew install prometheus"
        )
    return found


def _present(program: str) -> Path | None:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{debian.cache(_CACHE)}/usr/bin"))
    found = shutil.which(program, path=places)
    return Path(found) if found else None


def promtool(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool in a directory."""
    command = [str(find("promtool")), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240, check=False)


class Prometheus(ProxyProcess):
    """A server that runs with the `prometheus.yml` of a directory."""

    def __init__(self, files: Path) -> None:
        super().__init__("")
        self._files = files

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Return the command."""
        return [
            find("prometheus"),
            f"--config.file={self._files / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--query.lookback-delta=10s",
        ]

    def _listens(self) -> bool:
        return super()._listens() and http_status(f"127.0.0.1:{self.port}", "/-/ready") == 200

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series that a query finds now."""
        found: list[dict[str, Any]] = self._get("query", query=text)["result"]
        return found

    def alerts(self) -> list[dict[str, Any]]:
        """Return the pending and the firing alerts."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def _get(self, name: str, **parameters: str) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/api/v1/{name}?{urlencode(parameters)}"
        with urlopen(url, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data
