"""Clocks that a test moves."""

from __future__ import annotations

from collections.abc import Callable


class ManualClock:
    """A `ValidatorClock` for tests."""

    def __init__(self, now: float = 1_700_000_000.0, elapsed: float = 1000.0) -> None:
        self.wall = now
        self.running = elapsed
        self.now: Callable[[], float] = lambda: self.wall
        self.elapsed: Callable[[], float] = lambda: self.running

    def advance(self, seconds: float) -> None:
        """Let time pass, whether this process runs or not."""
        self.wall += seconds
        self.running += seconds

    def set_wall(self, step: float) -> None:
        """Change the wall clock by `step` seconds."""
        self.wall += step
