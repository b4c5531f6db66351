"""Time as a dependency, so that decisions can be tested at any moment."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the edges read time. `core` and `tokens` never do: they are given `now`."""

    def now(self) -> float:
        """Wall-clock time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...


class SystemClock:
    """The clocks of this machine."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
