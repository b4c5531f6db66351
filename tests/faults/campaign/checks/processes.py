"""No INTERNAL answer, no process that ends by itself, bounded memory, and full recovery after faults."""

from __future__ import annotations

from tests.faults.campaign.checks.finding import Finding, Surroundings
from tests.faults.campaign.history import Record

MEMORY_LIMIT = 400.0
"""Megabytes of resident memory that a node or a process of validators may use."""
RECOVERY_LIMIT = 90.0
"""Seconds after the last of several faults until every process must be ready and fresh."""
_DEFINITE = frozenset({"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED", "INVALID_ARGUMENT"})


class Processes:
    """Judges the processes themselves."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._found: list[Finding] = []
        self.memory: dict[str, float] = {}
        """Highest resident memory of each process, in MB."""
        self.slowest = 0.0
        """Duration of the slowest recovery, in seconds."""

    def feed(self, record: Record) -> None:
        """Take a record."""
        kind = record["k"]
        if kind == "rpc" and record["code"] in _DEFINITE:
            at = record["e"]
            self._add(
                f"{record['method']} answered {record['code']}", f"{record['reason']} {record['text']}", at
            )
        elif kind == "ended" and record["ready"]:
            self._add(
                f"{record['p']} ended by itself", f"exit code {record['code']}\n{record['log']}", record["at"]
            )
        elif kind == "log":
            self._add(f"{record['p']} logged a defect", record["text"], record["at"])
        elif kind == "memory":
            if record["rss"] > MEMORY_LIMIT >= self.memory.get(record["p"], 0.0):
                self._add(
                    f"{record['p']} uses too much memory",
                    f"{record['rss']:.0f} of {MEMORY_LIMIT:.0f} MB",
                    record["at"],
                )
            self.memory[record["p"]] = max(record["rss"], self.memory.get(record["p"], 0.0))
        elif kind == "rest":
            self.slowest = max(self.slowest, record["at"] - record["b"])
            if record["missing"]:
                self._add(
                    "not everything came back",
                    f"{', '.join(record['missing'])} after {record['at'] - record['b']:.0f} s without a fault",
                    record["b"],
                )
        elif kind == "lost":
            self._add("something acknowledged is lost", record["text"], record["at"])
        elif kind == "certificate" and not record["served"]:
            self._add("a replaced certificate is not served", record["p"], record["at"])

    def findings(self) -> list[Finding]:
        """Return the findings so far."""
        return list(self._found)

    def _add(self, kind: str, text: str, at: float) -> None:
        self._found.append(Finding(kind, f"{text}\n" + self._surroundings.around(at - 10, at + 1, at)))
