"""The clock as a dependency, so that tests can choose the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """The source of time for the edges. `core` and `tokens` never read a clock: they get `now` as an argument."""

    def now(self) -> float:
        """Return the wall-clock time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Return the seconds of a clock that never goes back and that counts the time of a suspended machine.

        Only differences between two readings have a meaning.
        """
        ...


def monotonic_clock() -> Callable[[], float]:
    """Return the clock that measures freshness.

    On Linux CLOCK_MONOTONIC stops while the machine is suspended. After a night of suspension a process would then
    treat the revocation set of the evening before as one second old. CLOCK_BOOTTIME counts the time of suspension. On
    macOS CLOCK_MONOTONIC counts that time and `time.monotonic` does not. None of these clocks stops while a process is
    stopped (SIGSTOP).
    """
    identifier: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if identifier is None else partial(time.clock_gettime, identifier)


class SystemClock:
    """The clocks of the machine."""

    now = staticmethod(time.time)
    monotonic = staticmethod(monotonic_clock())
