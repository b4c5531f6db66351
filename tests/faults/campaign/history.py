"""The recorded history: one append-only file of JSON lines for each process, with times of one clock.

A killed process leaves at most one torn line, its last one. Readers skip it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.validators import clock

Record = dict[str, Any]

__all__ = ["History", "Journal", "Record", "clock", "from_ranges", "to_ranges"]


class Journal:
    """The records of one process. The kernel has a line when `write` returns, so a kill loses no earlier line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if os.fstat(self._file).st_size:
            os.write(self._file, b"\n")  # ends a torn line of a killed process of this name

    def write(self, kind: str, /, **fields: Any) -> None:
        """Append a record."""
        os.write(self._file, f"{json.dumps({'k': kind, **fields}, separators=(',', ':'))}\n".encode())


class History:
    """The records of all processes so far."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[Record]:
        """Return the records since the last call, ordered by time within the call."""
        records: list[tuple[float, Record]] = []
        # Read validators before the load: a validator's record may follow from one of the load, but not the reverse.
        # In the other order, a revocation that a validator already heeded could be missing from the load's records.
        for path in sorted(self._directory.glob("*.jsonl"), reverse=True):
            records += [(_time(record), record) for record in self._lines(path)]
        records.sort(key=lambda item: item[0])
        return (record for _, record in records)

    def _lines(self, path: Path) -> Iterator[Record]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._read[path] = self._read.get(path, 0) + end
        for line in data[:end].splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            if isinstance(record, dict) and "k" in record:
                yield record


def _time(record: Record) -> float:
    return float(record.get("e") or record.get("at") or record.get("b") or 0.0)


def to_ranges(numbers: Iterable[int]) -> str:
    """Return numbers as text: `1-3,7`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number <= ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def from_ranges(text: str) -> Sequence[int]:
    """Return the numbers in the text of `to_ranges`."""
    numbers: list[int] = []
    for part in text.split(",") if text else []:
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return numbers
