"""A broken promise and the events that may explain it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.campaign.history import Record


@dataclass(frozen=True)
class Finding:
    """One broken promise."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


class Surroundings:
    """The faults and process ends that are shown beside a finding."""

    def __init__(self) -> None:
        self._faults: dict[int, Record] = {}
        self._ended: list[Record] = []

    def feed(self, record: Record) -> None:
        """Take a record."""
        if record["k"] == "fault":
            self._faults[record["id"]] = {**record, "until": None}
        elif record["k"] == "fault_end" and record["id"] in self._faults:
            self._faults[record["id"]]["until"] = record["at"]
        elif record["k"] in {"ended", "started"}:
            self._ended.append(record)

    def faults(self, begin: float, end: float, kind: str = "", target: str = "") -> list[Record]:
        """Return the faults active between two times, optionally of one kind and at one target."""
        return [
            fault
            for fault in self._faults.values()
            if fault["at"] <= end
            and (fault["until"] is None or fault["until"] >= begin)
            and fault["kind"].startswith(kind)
            and target in {"", fault["target"]}
        ]

    def around(self, begin: float, end: float, zero: float) -> str:
        """Return lines that describe the events between two times, relative to `zero`."""
        lines = [
            f"    fault: {fault['kind']} ({fault['target']}), {_offset(fault['at'], zero)} to "
            f"{_offset(fault['until'], zero)}"
            for fault in self.faults(begin, end)
        ]
        lines += [
            f"    process: {record['p']} {record['k']}, {_offset(record['at'], zero)}"
            for record in self._ended
            if begin <= record["at"] <= end
        ]
        return "\n".join(lines) or "    no fault at this time"

    def count(self) -> dict[str, int]:
        """Return the number of faults of each kind."""
        counts: dict[str, int] = {}
        for fault in self._faults.values():
            counts[fault["kind"]] = counts.get(fault["kind"], 0) + 1
        return dict(sorted(counts.items()))


def _offset(at: float | None, zero: float) -> str:
    return "now" if at is None else f"{at - zero:+.3f} s"
