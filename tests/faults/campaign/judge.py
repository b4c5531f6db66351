"""The judge: all checks of one history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tests.faults.campaign.checks.cursors import Cursors
from tests.faults.campaign.checks.finding import Finding, Surroundings
from tests.faults.campaign.checks.freshness import Freshness
from tests.faults.campaign.checks.ledger import Ledger
from tests.faults.campaign.checks.processes import Processes
from tests.faults.campaign.checks.refreshes import Refreshes
from tests.faults.campaign.history import Record

_REMEMBERED = 300.0
"""Seconds until records without a finding are dropped: no token is validated for so long."""


class Judge:
    """Judges the records of a history, fed in any number of parts."""

    def __init__(self, bound: float) -> None:
        """`bound`: S, in seconds."""
        self.surroundings = Surroundings()
        self.ledger = Ledger()
        self.freshness = Freshness(self.ledger, self.surroundings, bound)
        self.refreshes = Refreshes(self.ledger, self.surroundings)
        self.cursors = Cursors(self.surroundings)
        self.processes = Processes(self.surroundings)
        self.kinds: Counter[str] = Counter()
        self.sessions: dict[str, Record] = {}
        """Acknowledged sessions by id."""
        self.proven: dict[str, float] = {}
        """By validator: the time at which its last proof of freshness began."""

    @property
    def _checks(self) -> tuple[Any, ...]:
        return (self.surroundings, self.ledger, self.freshness, self.refreshes, self.cursors, self.processes)

    def feed(self, records: Iterable[Record]) -> None:
        """Take records."""
        for record in records:
            self.kinds[record["k"]] += 1
            if record["k"] == "begun":
                self.sessions[record["session"]] = record
            elif record["k"] == "beat":
                self.proven.update(record["proven"])
            for check in self._checks:
                check.feed(record)

    def findings(self) -> list[Finding]:
        """Return the findings so far."""
        checks = (self.freshness, self.refreshes, self.cursors, self.processes)
        return [finding for check in checks for finding in check.findings()]

    def forget(self, now: float) -> None:
        """Drop old records. Call this only when there are no findings."""
        self.freshness.forget(now - _REMEMBERED)
        self.ledger.forget(now - 2 * _REMEMBERED)
