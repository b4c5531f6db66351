"""A label with few values, for names of which there are many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_COUNTED: Final = 10
"""Names counted for each name that may have its own value."""
_EVER: Final = 20
"""Names that ever get their own value, for each that may have it at a time: this bounds the series of a process."""
_CHALLENGE: Final = 16
"""A name compares itself with the weakest one only when its count is a multiple of this."""


class TopNames:
    """Keeps the names with the highest counts, up to a number, and replaces all others by `other`.

    A name takes the place of the weakest one only with twice its count, so that two equal names do not take turns.
    The counts are halved when there are too many names, so recent calls weigh more. A series that was replaced keeps
    its value and does not grow further.
    """

    def __init__(self, most: int, other: str, known: Iterable[str] = ()) -> None:
        """`known`: the names that have series already."""
        self._most = most
        self._other = other
        self._counts: dict[str, int] = {}
        self._ever = {name for name in known if name != other}
        self._own = set(sorted(self._ever)[:most])

    def label(self, name: str) -> str:
        """Count a name; return it, or `other`."""
        counts = self._counts
        count = counts[name] = counts.get(name, 0) + 1
        if name in self._own:
            return name
        if count == 1 and len(counts) > _COUNTED * max(self._most, 1):
            self._counts = {each: half for each, number in counts.items() if (half := number // 2)}
        if len(self._own) < self._most or (
            self._own and count % _CHALLENGE == 0 and self._beats_weakest(count)
        ):
            return self._admit(name)
        return self._other

    def _beats_weakest(self, count: int) -> bool:
        weakest = min(self._own, key=lambda each: (self._counts.get(each, 0), each))
        if count < 2 * self._counts.get(weakest, 0):
            return False
        self._own.discard(weakest)
        return True

    def _admit(self, name: str) -> str:
        if name not in self._ever:
            if len(self._ever) >= _EVER * self._most:
                return self._other
            self._ever.add(name)
        self._own.add(name)
        return name
