"""The printed table."""

from __future__ import annotations

from dataclasses import dataclass

_TITLES = ("what", "ours", "reference", "ratio", "goal", "met")


@dataclass(frozen=True)
class Row:
    """One line: a measurement, its reference and its goal.

    `ratio` is ours by the reference. `at_least` or `at_most` is its goal; without either, the row has no goal.
    """

    what: str
    ours: str
    reference: str = ""
    ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.ratio is None or (self.at_least is None and self.at_most is None):
            return None
        if self.at_least is not None:
            return self.ratio >= self.at_least
        return self.ratio <= (self.at_most or 0.0)

    def cells(self) -> tuple[str, ...]:
        """Return the columns as text."""
        goal = ""
        if self.at_least is not None:
            goal = f">= {self.at_least:g}"
        elif self.at_most is not None:
            goal = f"<= {self.at_most:g}"
        met = "" if self.met is None else "yes" if self.met else "NO"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.what, self.ours, self.reference, ratio, goal, met


def render(rows: list[Row]) -> str:
    """Return the table."""
    cells = [_TITLES, *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    notes = [f"  {row.what}: {row.note}" for row in rows if row.note]
    return "\n".join([*(line.rstrip() for line in lines), *(["", *notes] if notes else [])])
