"""Time for what can't be undone: forgetting and deleting."""

from __future__ import annotations

from token_service.clock import Clock


class SteadyTime:
    """The time of day, as it goes on from the earliest reading: a clock set forward, rightly or not, does not
    hurry it.

    Nor does one that was ahead from the beginning, once a reading of another clock is known. What is deleted
    by it may be kept for longer than necessary, by as much as a clock was set forward since the process
    began.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = float("inf")

    def bound(self, time: float) -> None:
        """Note that by another clock it is no later than this: a NumericDate, infinite if that clock says
        nothing.
        """
        self._offset = min(self._offset, time - self._clock.monotonic())

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        elapsed = self._clock.monotonic()
        self._offset = min(self._offset, self._clock.now() - elapsed)
        return elapsed + self._offset
