"""Steady time: the time of day for irreversible deletions."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.leases import LeaseStore
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY

HOLD: Final = 2.0 * (MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY)
"""Seconds after a start during which the time noted before the start takes precedence over the clock.

Twice the time that a revocation is kept: by then no token that was revoked before the start is valid.
"""
_NOTE: Final = "time"


class SteadyTime:
    """The time of day, counted from the earliest reading: a clock set forward does not advance it.

    A clock that was ahead from the start does not advance it either. A reading of another clock bounds steady
    time. It begins at the time that was noted in the database before the start, as if no time had passed since,
    and follows the clock only after `HOLD` seconds. Data may therefore be kept longer than necessary, by as
    much as a clock was set forward since the process began.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = float("inf")
        self._held_offset = float("inf")
        self._held_until = float("-inf")

    def bound(self, time: float) -> None:
        """Note an upper bound from another clock: a NumericDate, infinite if that clock has no reading."""
        self._offset = min(self._offset, time - self._clock.monotonic())

    async def resume(self, leases: LeaseStore) -> None:
        """Begin at the time noted last or earlier. Raises `StoreUnavailableError`."""
        noted = await leases.earliest(_NOTE, self._clock.now())
        elapsed = self._clock.monotonic()
        self._held_offset = noted - elapsed
        self._held_until = elapsed + HOLD

    async def note(self, leases: LeaseStore) -> None:
        """Note the time for the next start. Raises `StoreUnavailableError`."""
        await leases.note(_NOTE, self.now())

    def elapsed(self) -> float:
        """Seconds by the monotonic clock, to measure durations."""
        return self._clock.monotonic()

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        elapsed = self._clock.monotonic()
        self._offset = min(self._offset, self._clock.now() - elapsed)
        if elapsed < self._held_until:
            return elapsed + min(self._offset, self._held_offset)
        return elapsed + self._offset
