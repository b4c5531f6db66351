"""What all kinds of reports share: how they read the fields of events, and the tables by interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.reports.trail.counting import Latest
from token_service.core.reports.trail.document import Chart, Column, Content, Table
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reading import TrailRead

MAX_TEXT: Final = 1000
"""Characters of one text in a listing."""
ERASED: Final = "(erased)"
NO_FIELDS: Final[Mapping[str, Any]] = {}
_decode: Final = msgspec.json.Decoder().decode


class Collector(Protocol):
    """Collects what a kind of report says."""

    def take(self, row: AuditRow) -> None:
        """Take an event. The order of the events must not matter."""
        ...

    def content(self, read: TrailRead) -> Content:
        """Return what the events say."""
        ...


def fields_of(row: AuditRow) -> Mapping[str, Any]:
    """Return the further fields of an event; none if they were damaged."""
    if row.fields == "{}":
        return NO_FIELDS
    try:
        found = _decode(row.fields)
    except msgspec.DecodeError:
        return NO_FIELDS
    return found if isinstance(found, dict) else NO_FIELDS


def number_in(fields: Mapping[str, Any], name: str) -> int:
    """Return a whole number in the fields of an event; 0 if it has none."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def numbers_in(fields: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """Return the whole numbers above 0 by name in the fields of an event."""
    found = fields.get(name)
    if not isinstance(found, dict):
        return {}
    return {each: number for each in found if (number := number_in(found, each))}


def text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text in the fields of an event; empty if it has none."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def personal(row: AuditRow, text: str) -> str:
    """Return a personal field as reports show it."""
    return ERASED if row.is_erased else text


def shortened(text: str) -> str:
    """Return at most `MAX_TEXT` characters of a text."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def place(row: AuditRow) -> tuple[int, str, int]:
    """Return the place of an event in the order of times."""
    return row.time, row.chain_id, row.position


def columns(*pairs: tuple[str, str]) -> Sequence[Column]:
    """Return columns of their names and labels."""
    return [Column(*pair) for pair in pairs]


class Series:
    """Numbers by interval."""

    def __init__(self, period: Period, series: Sequence[tuple[str, str]]) -> None:
        """`series`: the name and the label of each."""
        self._period: Final = period
        self._width: Final = period.width
        self._first: Final = period.start // period.width
        self._series: Final = series
        self._numbers: Final = [[0] * len(series) for _ in range(period.intervals)]

    def add(self, time: int, series: int, amount: int = 1) -> None:
        """Add to one of the series."""
        self._numbers[time // self._width - self._first][series] += amount

    def totals(self) -> Sequence[int]:
        """Return the sum of each of the series."""
        return [sum(column) for column in zip(*self._numbers, strict=True)]

    def peak(self, *series: int) -> tuple[str, int]:
        """Return the first interval with the highest sum of some of the series, and the sum. Empty: there is none."""
        sums = [sum(numbers[each] for each in series) for numbers in self._numbers]
        highest = max(sums)
        return (list(self._period.starts())[sums.index(highest)] if highest else "", highest)

    def table(self, title: str) -> Table:
        """Return all intervals as a table."""
        by = self._period.by
        return Table(
            name=f"by_{by}",
            title=f"{title} by {by}",
            columns=columns((by, f"{by.capitalize()} (UTC)"), *self._series),
            rows=[
                (start, *numbers) for start, numbers in zip(self._period.starts(), self._numbers, strict=True)
            ],
            chart=Chart.LINES,
        )


def listing(name: str, title: str, header: Sequence[Column], latest: Latest) -> Table:
    """Return listed events as a table."""
    rows = latest.rows()
    note = (
        f"The latest {len(rows)}; {latest.dropped} earlier ones are counted but not listed."
        if latest.dropped
        else ""
    )
    return Table(name=name, title=title, columns=header, rows=rows, note=note)
