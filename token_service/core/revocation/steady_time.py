"""Time for what can't be undone: forgetting and deleting."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.leases import LeaseStore
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY

HOLD: Final = 2.0 * (MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY)
"""Seconds after a start for which the time that was noted before it is believed rather than the clock.

Twice what a revocation is remembered for: by then no token that was revoked before the start is valid.
"""
_NOTE: Final = "time"


class SteadyTime:
    """The time of day, as it goes on from the earliest reading: a clock set forward, rightly or not, does not
    hurry it.

    Nor does one that was ahead from the beginning. It is bound by a reading of another clock where there is
    one, and it begins with the time that was noted in the database before the start, as if none had passed in
    between; only after `HOLD` seconds it follows the clock. What is deleted by it may therefore be kept for
    longer than necessary, by as much as a clock was set forward since the process began.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = float("inf")
        self._held_offset = float("inf")
        self._held_until = float("-inf")

    def bound(self, time: float) -> None:
        """Note that by another clock it is no later than this: a NumericDate, infinite if that clock says
        nothing.
        """
        self._offset = min(self._offset, time - self._clock.monotonic())

    async def resume(self, leases: LeaseStore) -> None:
        """Begin no later than at the time that was noted last. Raises `StoreUnavailableError`."""
        noted = await leases.earliest(_NOTE, self._clock.now())
        elapsed = self._clock.monotonic()
        self._held_offset = noted - elapsed
        self._held_until = elapsed + HOLD

    async def note(self, leases: LeaseStore) -> None:
        """Note the time for the next start. Raises `StoreUnavailableError`."""
        await leases.note(_NOTE, self.now())

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        elapsed = self._clock.monotonic()
        self._offset = min(self._offset, self._clock.now() - elapsed)
        if elapsed < self._held_until:
            return elapsed + min(self._offset, self._held_offset)
        return elapsed + self._offset
