"""The time until the server and the client library are ready."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from tests.support.processes import ServiceProcess, http_status

_READY = 1.5
_IMPORT = 0.3
_CLIENT = "token_service.client"
_USED = "TokenValidator"
"""The name to import: importing the package itself loads nothing."""


def start(effort: Effort) -> Iterator[Row]:
    """Measure from the start of the process to the first 200 of /readyz, on SQLite: without and with a database."""
    rounds = max(3, effort.rounds // 3)
    fresh: list[float] = []
    again: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            service = ServiceProcess(data_dir=Path(directory) / "data")
            try:
                for times in (fresh, again):
                    times.append(_ready_after(service))
                    service.terminate()
            finally:
                service.close()
    yield _row("server ready on SQLite, first start", fresh, _READY)
    yield _row("server ready on SQLite, later starts", again, _READY)


def _ready_after(service: ServiceProcess) -> float:
    began = time.perf_counter()
    service.start(wait=False)
    while http_status(service.http_address, "/readyz", timeout=1) != 200:
        assert service.running, service.log_text()
        assert time.perf_counter() - began < 60, "not ready within a minute"
        time.sleep(0.005)
    return time.perf_counter() - began


def import_client(effort: Effort) -> Iterator[Row]:
    """Measure the import of the client library in a new process, gRPC included."""
    if find_spec(_CLIENT) is None:
        yield Row(f"import {_CLIENT}", "not installed")
        return
    code = (
        f"import time; t = time.perf_counter(); from {_CLIENT} import {_USED}; print(time.perf_counter() - t)"
    )
    times = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
            ).stdout
        )
        for _ in range(max(5, effort.rounds))
    ]
    yield _row(f"import {_USED} of {_CLIENT}", times, _IMPORT)


def _row(what: str, times: list[float], limit: float) -> Row:
    middle = median(times)
    return Row(
        what,
        f"{middle:.2f} s",
        f"limit {limit} s",
        middle / limit,
        at_most=1.0,
        note=f"{len(times)} times, from {min(times):.2f} to {max(times):.2f} s",
    )
