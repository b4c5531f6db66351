"""Quotas: limits of one caller's share of common resources.

A caller is any hashable value: its identity, or the address of a peer without one. Memory does not grow with
the number of past callers. For one event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from token_service.errors import OverloadedError

_MAX_CALLERS: Final = 10_000
"""Maximal number of callers in a `RateQuota`. One entry takes about 200 bytes."""


class Quota:
    """Limits the amount of one resource that each caller holds concurrently."""

    __slots__ = ("_held", "_retry_after", "limit", "name", "refused")

    def __init__(self, name: str, limit: int, *, retry_after: float) -> None:
        """`name` is shown to the caller that is refused; `retry_after`: seconds until it may try again."""
        self.name = name
        self.limit = limit
        """May be changed at any time."""
        self._retry_after = retry_after
        self._held: dict[Hashable, int] = {}
        self.refused = 0
        """How often a caller was refused."""

    def held(self, caller: Hashable) -> int:
        """Return the amount that a caller holds."""
        return self._held.get(caller, 0)

    def take(self, caller: Hashable, amount: int = 1) -> None:
        """Add to the amount that a caller holds. Raises `OverloadedError` beyond the limit."""
        held = self._held.get(caller, 0) + amount
        if held > self.limit:
            self.refused += 1
            raise exhausted(self.name, self.limit, self._retry_after)
        self._held[caller] = held

    def give_back(self, caller: Hashable, amount: int = 1) -> None:
        """Subtract an amount that a caller took before."""
        held = self._held[caller] - amount
        if held:
            self._held[caller] = held
        else:
            del self._held[caller]

    @contextmanager
    def holding(self, caller: Hashable, amount: int = 1) -> Iterator[None]:
        """Hold an amount while the block runs. Raises `OverloadedError` like `take`."""
        self.take(caller, amount)
        try:
            yield
        finally:
            self.give_back(caller, amount)


class RateQuota:
    """Limits the amount that each caller spends: `limit` at once, refilled over each period.

    Implements the generic cell rate algorithm: it keeps one number per caller, the time at which the caller has
    its whole allowance again.
    """

    __slots__ = ("_monotonic", "_period", "_whole_at", "limit", "name", "refused")

    def __init__(self, name: str, limit: int, period: float, monotonic: Callable[[], float]) -> None:
        """`name` is shown to the caller that is refused; `period` in seconds; `monotonic` tells the time."""
        self.name = name
        self.limit = limit
        """May be changed at any time."""
        self._period = period
        self._monotonic = monotonic
        self._whole_at: dict[Hashable, float] = {}
        self.refused = 0
        """How often a caller was refused."""

    def __len__(self) -> int:
        """Return the number of remembered callers."""
        return len(self._whole_at)

    def spend(self, caller: Hashable, amount: int = 1) -> None:
        """Spend a part of a caller's allowance.

        Raises `OverloadedError`, and spends nothing, if less than `amount` is left. Its `retry_after` tells when
        enough is left again. More than `limit` at once is always refused.
        """
        now = self._monotonic()
        known = self._whole_at.get(caller, now)
        whole_at = max(known, now) + amount * self._period / self.limit
        too_early = whole_at - now - self._period
        # Sums of fractions of a period differ from it in the last digits.
        if too_early > self._period * 1e-9:
            self.refused += 1
            raise exhausted(self.name, self.limit, too_early)
        if len(self._whole_at) >= _MAX_CALLERS and caller not in self._whole_at:
            self._forget(now)
        self._whole_at[caller] = whole_at

    def require(self, caller: Hashable) -> None:
        """Raise `OverloadedError` if a caller can spend nothing now. Spends nothing."""
        whole_at = self._whole_at.get(caller)
        if whole_at is None:
            return
        too_early = whole_at + self._period / self.limit - self._monotonic() - self._period
        if too_early > self._period * 1e-9:
            self.refused += 1
            raise exhausted(self.name, self.limit, too_early)

    def _forget(self, now: float) -> None:
        """Forget callers that have their whole allowance, then the callers that spent least, until half are left."""
        kept = sorted(
            (item for item in self._whole_at.items() if item[1] > now), key=lambda item: item[1], reverse=True
        )
        self._whole_at = dict(kept[: _MAX_CALLERS // 2])


def exhausted(name: str, limit: int, retry_after: float) -> OverloadedError:
    """Return the error for a caller that has reached its limit of `name`."""
    return OverloadedError(
        f"the caller has reached its limit of {name}: {limit}",
        metadata={"quota": name, "limit": str(limit)},
        retry_after=retry_after,
    )
