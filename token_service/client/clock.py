"""The two clocks of a validator."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol


class ValidatorClock(Protocol):
    """Where a validator reads time. Both are called on every validation."""

    @property
    def now(self) -> Callable[[], float]:
        """Wall-clock time in seconds since the Unix epoch, which `exp` and `nbf` are compared with."""
        ...

    @property
    def elapsed(self) -> Callable[[], float]:
        """Seconds on a clock that never goes back and *does* count the time the machine was suspended."""
        ...


def _elapsed() -> Callable[[], float]:
    """The clock that freshness is measured with.

    On Linux CLOCK_MONOTONIC stands still while the machine is suspended: a validator that wakes up after a
    night would take what it knew the evening before for a second old. CLOCK_BOOTTIME goes on. On macOS
    CLOCK_MONOTONIC does, and `time.monotonic` does not. A process that is stopped (SIGSTOP) stops none of
    them.
    """
    identifier: int | None = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic if identifier is None else partial(time.clock_gettime, identifier)


class SystemValidatorClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.elapsed: Callable[[], float] = _elapsed()
