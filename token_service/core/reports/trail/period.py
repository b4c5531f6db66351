"""The time range of a report, divided into hours or days of UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

MAX_INTERVALS: Final = 4000
"""Intervals of a report: 166 days by hour, or 10 years by day."""
_SECOND: Final = 1_000_000
WIDTHS: Final = {"hour": 3600 * _SECOND, "day": 86_400 * _SECOND}
"""The intervals by name, in microseconds."""
_BY_HOUR_UP_TO: Final = 3 * WIDTHS["day"]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253_402_300_799 * _SECOND
"""The last second of the year 9999."""


@dataclass(frozen=True, slots=True)
class Period:
    """A time range from `start` to before `end`, in microseconds since the Unix epoch."""

    start: int
    end: int
    by: str
    """`hour` or `day`."""

    @classmethod
    def of(cls, start: float, end: float, by: str | None = None) -> Period:
        """Return the range between two times in seconds. `by` None: by hour up to 3 days, else by day.

        Raises `ValueError`, whose message names the bound to change.
        """
        first, last = round(start * _SECOND), round(end * _SECOND)
        if not 0 <= first <= _LATEST or not 0 <= last <= _LATEST:
            raise ValueError("is not between the years 1970 and 9999")
        if first >= last:
            raise ValueError(f"ends at {time_text(last)}, which is not after its start {time_text(first)}")
        if by is None:
            by = "hour" if last - first <= _BY_HOUR_UP_TO else "day"
        found = cls(first, last, by)
        if found.intervals > MAX_INTERVALS:
            advice = "choose days, or a shorter range" if by == "hour" else "choose a shorter range"
            raise ValueError(f"has {found.intervals} intervals, more than {MAX_INTERVALS}; {advice}")
        return found

    @property
    def width(self) -> int:
        """The length of an interval in microseconds."""
        return WIDTHS[self.by]

    @property
    def intervals(self) -> int:
        """The number of intervals. The first and the last one may lie partly outside the range."""
        return (self.end - 1) // self.width - self.start // self.width + 1

    def starts(self) -> Iterator[str]:
        """Return the starts of all intervals as text: times, or days."""
        first, length = self.start // self.width, 20 if self.by == "hour" else 10
        return (time_text((first + number) * self.width)[:length] for number in range(self.intervals))

    def days(self) -> Iterator[tuple[int, int]]:
        """Return the range in parts of at most a day."""
        step = WIDTHS["day"]
        return ((start, min(start + step, self.end)) for start in range(self.start, self.end, step))


def time_text(time: int) -> str:
    """Return a time in microseconds as text in UTC, with a fraction only if it has one."""
    seconds, micros = divmod(time, _SECOND)
    text = f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{micros:06}Z" if micros else f"{text}Z"
