"""Time for what can't be undone: forgetting and deleting."""

from __future__ import annotations

from token_service.clock import Clock


class SteadyTime:
    """The time of day, as it goes on from the earliest reading: a clock set forward, rightly or not, does not hurry it.

    What is deleted by it may be kept for longer than necessary, by as much as the clock was set forward since
    the process began.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = float("inf")

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        elapsed = self._clock.monotonic()
        self._offset = min(self._offset, self._clock.now() - elapsed)
        return elapsed + self._offset
