"""A movable wall clock for one process: Debian's libfaketime.

Only CLOCK_REALTIME moves. The library refuses `clock_nanosleep` with an absolute time, which `time.sleep` uses, so a
program with a moved clock calls `repair_sleep` first.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import SupportsIndex

from tests.support.debian import cache, fetch

LIBRARY_VARIABLE = "TOKEN_SERVICE_TEST_LIBFAKETIME"
_NAME = "libfaketimeMT.so.1"
_PLACES = ("usr/lib/*/faketime", "usr/lib/faketime", "usr/lib64/faketime", "usr/local/lib/faketime")


def find_libfaketime() -> Path:
    """Return the library named by the environment, on the usual paths, or from Debian's package.

    Raise `RuntimeError` that says what to install.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise RuntimeError(f"{LIBRARY_VARIABLE}={named}: no such file")
        return Path(named)
    found, problem = _present(), ""
    if found is None:
        found, problem = fetch("libfaketime", "libfaketime", ["libfaketime"], _present)
    if found is None:
        raise RuntimeError(
            f"libfaketime is needed to move the clock of a process and could not be installed ({problem}). Install "
            f"it, for example: apt-get install libfaketime, or set {LIBRARY_VARIABLE} to {_NAME}."
        )
    return found


def _present() -> Path | None:
    for root in (Path("/"), cache("libfaketime")):
        for place in _PLACES:
            for directory in sorted(root.glob(place)):
                if (directory / _NAME).is_file():
                    return directory / _NAME
    return None


class MovableClock:
    """The wall clock of the processes that get `environment`; `move` takes effect within a second."""

    def __init__(self, library: Path, file: Path) -> None:
        self._library = library
        self._file = file
        self.offset = 0
        self.move(0)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process with this clock."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
            # The fix is for an older glibc. With it, Python's threads don't sleep while they wait for each other: a
            # node took ten times the processor time to start, and a third of a processor while idle.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }

    def move(self, offset: int) -> None:
        """Set the clock `offset` seconds ahead of the machine's clock, or behind it if negative."""
        self.offset = offset
        # Replaced atomically: the library must not read half of it.
        draft = self._file.with_name(f"{self._file.name}.new")
        draft.write_text(f"{offset:+d}\n")
        draft.replace(self._file)


def repair_sleep() -> None:
    """Make `time.sleep` work in this process if it runs with a moved clock."""
    if "FAKETIME_TIMESTAMP_FILE" in os.environ:
        time.sleep = _sleep


def _sleep(seconds: SupportsIndex | float, /) -> None:
    threading.Event().wait(float(seconds))
