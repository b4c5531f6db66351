"""Time as a dependency, so that decisions can be tested at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """Where the edges read time. `core` and `tokens` never do: they are given `now`."""

    def now(self) -> float:
        """Wall-clock time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back and counts the time the machine was suspended.

        Only differences mean anything.
        """
        ...


def monotonic_clock() -> Callable[[], float]:
    """The clock that freshness is measured with.

    On Linux CLOCK_MONOTONIC stands still while the machine is suspended: a process that wakes up after a
    night would take the set of the evening before for a second old. CLOCK_BOOTTIME goes on. On macOS
    CLOCK_MONOTONIC does, and `time.monotonic` does not. A process that is stopped (SIGSTOP) stops none of
    them.
    """
    identifier: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if identifier is None else partial(time.clock_gettime, identifier)


class SystemClock:
    """The clocks of this machine."""

    now = staticmethod(time.time)
    monotonic = staticmethod(monotonic_clock())
