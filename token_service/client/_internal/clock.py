"""The two clocks of a validator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from token_service.clock import monotonic_clock


class ValidatorClock(Protocol):
    """Source of time for a validator. Each validation calls both functions."""

    @property
    def now(self) -> Callable[[], float]:
        """Wall-clock time in seconds since the Unix epoch, compared with `exp` and `nbf`."""
        ...

    @property
    def elapsed(self) -> Callable[[], float]:
        """Seconds on a clock that never goes back and *does* count the time while the machine is suspended."""
        ...


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment on both clocks."""

    now: float
    elapsed: float

    @classmethod
    def of(cls, clock: ValidatorClock) -> Self:
        """Read both clocks."""
        return cls(clock.now(), clock.elapsed())


class SystemValidatorClock:
    """The clocks of this machine."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.elapsed: Callable[[], float] = monotonic_clock()
