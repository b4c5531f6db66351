"""A report: figures and tables, the ends of the chains that it was made from, and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from token_service.core.reports.trail.period import Period, time_text
from token_service.core.reports.trail.reading import TrailRead

FORMAT: Final = 1
"""The format of reports. Another format has other bytes for the same trail."""
HASH: Final = "sha256"
"""The member with the hash."""

Cell = str | int


class Chart(Enum):
    """The picture of a table."""

    LINES = "lines"
    """A line for each column of numbers; the first column is the time."""
    BARS = "bars"
    """A bar for each row: the sum of its numbers."""
    FIRST_BARS = "first_bars"
    """A bar for each row: its first number."""
    LANES = "lanes"
    """A lane for each row: the times in its columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `name` is for programs, `label` for people."""

    name: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a report."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    other: Sequence[Cell] | None = None
    """The numbers of the rows that are not listed, after as many texts as a row has."""
    note: str = ""
    """What the rows leave out."""
    chart: Chart | None = None

    def members(self) -> Mapping[str, Any]:
        """Return the table as JSON members."""
        names = [column.name for column in self.columns]
        members: dict[str, Any] = {"rows": [dict(zip(names, row, strict=True)) for row in self.rows]}
        if self.other is not None:
            numbers = zip(names, self.other, strict=True)
            members["other"] = {name: value for name, value in numbers if isinstance(value, int)}
        if self.note:
            members["note"] = self.note
        return members


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a report that stands for itself."""

    name: str
    label: str
    value: Cell


@dataclass(frozen=True, slots=True)
class Content:
    """What a kind of report says."""

    figures: Sequence[Figure]
    tables: Sequence[Table]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report."""

    kind: str
    period: Period
    trail: TrailRead
    content: Content
    locations: str = ""
    """The SHA-256 of the file that named the countries of addresses; empty: none was used."""

    def members(self) -> dict[str, Any]:
        """Return the report as JSON members, with its hash."""
        members: dict[str, Any] = {
            "report": self.kind,
            "format": FORMAT,
            "from": time_text(self.period.start),
            "to": time_text(self.period.end),
            "by": self.period.by,
            "locations": self.locations,
            "events": self.trail.events,
            "erased": self.trail.erased,
            "verified": self.trail.is_intact,
            "findings": list(self.trail.findings),
            "chains": [asdict(chain) for chain in self.trail.chains],
            "notes": list(self.content.notes),
            "figures": {each.name: each.value for each in self.content.figures},
            "tables": {table.name: table.members() for table in self.content.tables},
        }
        return {**members, HASH: hash_of(members)}


def hash_of(members: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON of a report without its hash, in hexadecimal digits.

    The names are sorted, nothing is between the tokens, and characters beyond ASCII are not escaped.
    """
    unsigned = {name: value for name, value in members.items() if name != HASH}
    text = json.dumps(unsigned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
