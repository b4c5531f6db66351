"""The pictures of tables as places on a drawing, without time or randomness: the same table has the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from token_service.core.reports.trail.document import Cell, Chart, Table
from token_service.core.reports.trail.period import Period, time_text

WIDTH: Final = 960
HEIGHT: Final = 180
"""The height of lines, without the labels below."""
ROW: Final = 24
"""The height of a bar, and of a lane."""
BARS: Final = 12
LANES: Final = 40
_LEFT: Final = 64
"""The place of the lines; the labels of their values are left of it."""
_LABEL: Final = 300
"""The place of the bars; their labels are left of it."""
_BAR: Final = WIDTH - _LABEL - 80
_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number among the colors, and its points as SVG writes them."""

    label: str
    color: int
    points: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its label and number."""

    label: str
    width: float
    value: int
    y: int


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which a key was in a state."""

    state: str
    x: float
    width: float
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Lane:
    """A key with its states."""

    label: str
    y: int
    spans: Sequence[Span]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of one kind. `more`: rows of the table that it leaves out."""

    kind: str
    height: int
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    lanes: Sequence[Lane] = ()
    x_ticks: Sequence[tuple[float, str]] = ()
    y_ticks: Sequence[tuple[float, str]] = ()
    more: int = 0


def picture(table: Table, period: Period) -> Picture | None:
    """Return the picture of a table; None: it has none, or nothing to show."""
    if table.chart is None or not table.rows:
        return None
    if table.chart is Chart.LINES:
        return _lines(table)
    if table.chart is Chart.LANES:
        return _lanes(table, period)
    return _bars(table, first=table.chart is Chart.FIRST_BARS)


def _lines(table: Table) -> Picture | None:
    series = [
        (index, column.label, [_number(row[index]) for row in table.rows])
        for index, column in enumerate(table.columns)
        if index
    ]
    shown = [(index, label, numbers) for index, label, numbers in series if any(numbers)]
    if not shown:
        return None
    highest = max(max(numbers) for _, _, numbers in shown)
    last = len(table.rows) - 1
    step = (WIDTH - _LEFT) / max(last, 1)

    def point(number: int, value: int) -> str:
        return f"{_LEFT + number * step:.1f},{HEIGHT * (1 - value / highest):.1f}"

    def points(numbers: Sequence[int]) -> str:
        # A line of one interval would have no length.
        found = [point(number, value) for number, value in enumerate(numbers)]
        return " ".join(found if last else [found[0], point(1, numbers[0])])

    places = sorted({last * tick // (_TICKS - 1) for tick in range(_TICKS)})
    return Picture(
        "lines",
        HEIGHT,
        lines=[Line(label, index, points(numbers)) for index, label, numbers in shown],
        x_ticks=[(round(_LEFT + each * step, 1), _short(str(table.rows[each][0]))) for each in places],
        y_ticks=[(0.0, f"{highest:,}"), (float(HEIGHT), "0")],
    )


def _bars(table: Table, *, first: bool) -> Picture:
    values = []
    for row in table.rows:
        numbers = [cell for cell in row if isinstance(cell, int)]
        values.append(numbers[0] if first else sum(numbers))
    highest = max(*values[:BARS], 1)
    texts = sum(isinstance(cell, str) for cell in table.rows[0])
    return Picture(
        "bars",
        ROW * min(len(values), BARS),
        bars=[
            Bar(
                _fitting(" ".join(str(cell) for cell in row[:texts]).strip() or "—"),
                round(_BAR * value / highest, 1),
                value,
                ROW * number,
            )
            for number, (row, value) in enumerate(zip(table.rows[:BARS], values, strict=False))
        ],
        more=max(0, len(values) - BARS),
    )


def _lanes(table: Table, period: Period) -> Picture:
    length = period.end - period.start

    def place(time: int) -> float:
        return round((WIDTH - _LABEL) * (time - period.start) / length + _LABEL, 1)

    names = [column.name for column in table.columns]
    lanes = []
    for number, row in enumerate(table.rows[:LANES]):
        steps = sorted(
            (_micros(str(cell)), names[index])
            for index, cell in enumerate(row)
            if index > 1 and isinstance(cell, str) and cell
        )
        ends = [*(time for time, _ in steps[1:]), period.end]
        spans = [
            Span(
                name,
                place(time),
                max(round(place(end) - place(time), 1), 2.0),
                time_text(time),
                time_text(end),
            )
            for (time, name), end in zip(steps, ends, strict=False)  # a key without a step has no span
        ]
        lanes.append(Lane(_fitting(f"{row[0]} {row[1]}".strip()), ROW * number, spans))
    ticks = [period.start + length * tick // (_TICKS - 1) for tick in range(_TICKS)]
    return Picture(
        "lanes",
        ROW * len(lanes),
        lanes=lanes,
        x_ticks=[(place(tick), _short(time_text(tick))) for tick in ticks],
        more=max(0, len(table.rows) - LANES),
    )


def _number(cell: Cell) -> int:
    assert isinstance(cell, int)
    return cell


def _micros(text: str) -> int:
    time = datetime.fromisoformat(text)
    return int(time.replace(microsecond=0).timestamp()) * 1_000_000 + time.microsecond


def _short(text: str) -> str:
    """Return a time to the minute, and a midnight as its day."""
    day, _, clock = text.partition("T")
    return day if not clock or clock.startswith("00:00:00") else f"{day} {clock[:5]}"


def _fitting(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
