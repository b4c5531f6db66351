"""Support for moved clocks: the wall clock of one process jumps, its other clocks and its sleep do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.libfaketime import MovableClock, find_libfaketime

PROGRAM = """
import json, sys, time
from tests.support.libfaketime import repair_sleep
repair_sleep()
for line in sys.stdin:
    time.sleep(0.01)
    print(json.dumps([time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)]), flush=True)
"""


def test_only_the_wall_clock_of_the_process_moves(tmp_path: Path) -> None:
    clock = MovableClock(find_libfaketime(), tmp_path / "clock")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **clock.environment},
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def read() -> list[float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        wall, monotonic, boot = json.loads(process.stdout.readline())
        return [
            wall - time.time(),
            monotonic - time.monotonic(),
            boot - time.clock_gettime(time.CLOCK_BOOTTIME),
        ]

    def moved_to(offset: int) -> None:
        # The library reads the file once a second.
        deadline = time.monotonic() + 60
        while abs((offsets := read())[0] - offset) > 30 and time.monotonic() < deadline:
            pass
        assert abs(offsets[0] - offset) < 30
        assert abs(offsets[1]) < 30
        assert abs(offsets[2]) < 30

    with process:
        moved_to(0)
        for offset in (3600, -3600, 0):
            clock.move(offset)
            moved_to(offset)
        process.stdin.close()
