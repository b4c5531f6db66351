"""How far the subscribers of this node are behind the log, in seconds."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from token_service.clock import Clock
from token_service.core.subscribers.registry import SILENT_AFTER, Subscribers
from token_service.tokens.revocation import Revocation

_STEP: Final = 0.1
"""Entries that arrive within this many seconds share one mark, made at the time of the first."""
_MAX_MARKS: Final = 10_000
"""Marks kept. Beyond them a subscriber counts as behind since the oldest one."""
_P99: Final = 0.99


@dataclass(frozen=True, slots=True)
class Staleness:
    """The staleness of the subscribers of this node. Times are in seconds."""

    highest: float = 0.0
    p99: float = 0.0
    behind: int = 0
    """Subscribers that have not confirmed an entry which is older than `SILENT_AFTER`."""


class SubscriberLag:
    """Marks when entries arrive at this node, and compares the marks with the confirmations. A listener of the replica."""

    def __init__(self, subscribers: Subscribers, reached: Callable[[], int], clock: Clock) -> None:
        """`reached`: the sequence that the replica has applied."""
        self._subscribers = subscribers
        self._reached = reached
        self._clock = clock
        self._marks: deque[tuple[float, int, int]] = deque()
        """(time, first sequence, last sequence), the latest last."""
        self._open: deque[tuple[float, int]] = deque()
        """(time, last sequence) of the marks that not all subscribers have confirmed."""
        self._listeners: list[Callable[[float], None]] = []
        subscribers.on_progress(self._progressed)

    def on_confirmed(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with the seconds from an entry's arrival until all subscribers here had confirmed it."""
        self._listeners.append(listener)

    def applied(self, entries: Sequence[Revocation]) -> None:
        """Mark the arrival of entries."""
        now, first, last = self._clock.monotonic(), entries[0].sequence, entries[-1].sequence
        if self._marks and now - self._marks[-1][0] < _STEP:
            began, first, _ = self._marks[-1]
            self._marks[-1] = began, first, last
        else:
            self._marks.append((now, first, last))
            if len(self._marks) > _MAX_MARKS:
                # The two oldest become one: its subscribers stay behind for as long.
                began, first, _ = self._marks.popleft()
                self._marks[0] = began, first, self._marks[0][2]
        if not len(self._subscribers):
            self._open.clear()
        elif self._open and self._open[-1][0] == self._marks[-1][0]:
            self._open[-1] = self._marks[-1][0], last
        elif len(self._open) < _MAX_MARKS:
            self._open.append((self._marks[-1][0], last))

    def was_reset(self) -> None:
        """Forget the marks of another place in the log."""
        self._marks.clear()
        self._open.clear()

    def staleness(self) -> Staleness:
        """Return the staleness now, and drop the marks that every subscriber has passed."""
        levels = self._subscribers.applied
        lowest = min(levels.values(), default=self._reached())
        while self._marks and self._marks[0][2] <= lowest:
            self._marks.popleft()
        if not self._marks or not levels:
            return Staleness()
        now = self._clock.monotonic()
        lasts = [last for _, _, last in self._marks]
        ages = []
        for sequence in levels.values():
            place = bisect_right(lasts, sequence)
            ages.append(now - self._marks[place][0] if place < len(lasts) else 0.0)
        ages.sort()
        return Staleness(
            ages[-1], ages[max(0, ceil(_P99 * len(ages)) - 1)], sum(age >= SILENT_AFTER for age in ages)
        )

    def _progressed(self) -> None:
        if not self._open:
            return
        if not len(self._subscribers):
            self._open.clear()
            return
        lowest, now = self._subscribers.lowest, self._clock.monotonic()
        while self._open and self._open[0][1] <= lowest:
            began, _ = self._open.popleft()
            for listener in self._listeners:
                listener(now - began)
