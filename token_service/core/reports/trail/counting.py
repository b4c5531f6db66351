"""Counts in bounded memory that do not depend on the order of events, up to the stated limits."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Sequence
from typing import Any, Final

MAX_KEYS: Final = 10_000
"""Distinct keys that are counted apart. The events of further ones are counted together."""
MAX_LISTED: Final = 5_000
"""Events that a listing keeps: the latest ones."""
EXACT_UP_TO: Final = 50_000
"""Distinct values that are counted exactly. More are estimated, with an error of about 0.5 %."""
_HASHES: Final = 1 << 64


class Counts:
    """Numbers by key, in a fixed number of columns."""

    def __init__(self, columns: int, limit: int = MAX_KEYS) -> None:
        self._columns = columns
        self._limit = limit
        self._numbers: dict[tuple[str, ...], list[int]] = {}
        self._other: list[int] | None = None

    def add(self, key: tuple[str, ...], column: int = 0, amount: int = 1) -> None:
        """Add to a column of a key."""
        numbers = self._numbers.get(key)
        if numbers is None:
            if len(self._numbers) < self._limit:
                numbers = self._numbers[key] = [0] * self._columns
            else:
                numbers = self._other = self._other or [0] * self._columns
        numbers[column] += amount

    @property
    def other(self) -> Sequence[int] | None:
        """The numbers of the keys beyond the limit; None: there are none."""
        return self._other

    def rows(self, *, by_first: bool = False) -> Sequence[tuple[str | int, ...]]:
        """Return keys with their numbers, those with the highest sum first, or those with the highest first number."""
        ordered = sorted(
            self._numbers.items(), key=lambda item: (-(item[1][0] if by_first else sum(item[1])), item[0])
        )
        return [(*key, *numbers) for key, numbers in ordered]

    def totals(self) -> Sequence[int]:
        """Return the sums of the columns."""
        numbers = [*self._numbers.values(), self._other or [0] * self._columns]
        return [sum(column) for column in zip(*numbers, strict=True)]


class Latest:
    """The events with the highest places, at most `limit`."""

    def __init__(self, limit: int = MAX_LISTED) -> None:
        self._limit = limit
        self._heap: list[tuple[tuple[Any, ...], tuple[str | int, ...]]] = []
        self.dropped = 0
        """Events that are not kept."""

    def add(self, place: tuple[Any, ...], row: tuple[str | int, ...]) -> None:
        """Add an event. Places are unique and decide the order."""
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, (place, row))
        else:
            heapq.heappushpop(self._heap, (place, row))
            self.dropped += 1

    def rows(self) -> Sequence[tuple[str | int, ...]]:
        """Return the kept events in their order."""
        return [row for _, row in sorted(self._heap)]


class Distinct:
    """The number of distinct texts, estimated from the lowest hashes if they are many."""

    def __init__(self, limit: int = EXACT_UP_TO) -> None:
        self._limit = limit
        self._kept: set[int] = set()
        self._highest_first: list[int] = []
        self.is_exact = True

    def add(self, text: str) -> None:
        """Add a text."""
        value = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        if value in self._kept:
            return
        if len(self._kept) < self._limit:
            heapq.heappush(self._highest_first, -value)
        else:
            self.is_exact = False
            if value > -self._highest_first[0]:
                return
            self._kept.remove(-heapq.heappushpop(self._highest_first, -value))
        self._kept.add(value)

    def count(self) -> int:
        """Return the number."""
        if self.is_exact:
            return len(self._kept)
        return (self._limit - 1) * _HASHES // -self._highest_first[0]
