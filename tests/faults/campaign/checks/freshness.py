"""No token is accepted as fresh later than S after the acknowledgment of its revocation or after its expiry, and no
token is refused as revoked before a revocation was sent.

A validation counts as accepted at a time taken before it began. Later events make no difference, such as a process
that is stopped between verdict and record.
"""

from __future__ import annotations

from typing import TypeVar

from tests.faults.campaign.checks.finding import Finding, Surroundings
from tests.faults.campaign.checks.ledger import Ledger
from tests.faults.campaign.history import Record, from_ranges
from tests.faults.campaign.plan import LEEWAY

KeyT = TypeVar("KeyT")

LOCAL_BOUND = 10.0
"""Seconds that an answer with CONSISTENCY_LOCAL may lag behind: REPLICA_MAX_AGE of the nodes."""
_TICK = 1.0
"""Seconds by which two reads of a moved clock in one process may differ."""
_CLOCK_MARGIN = 3.0


class Freshness:
    """Judges the verdicts of validators and nodes."""

    def __init__(self, ledger: Ledger, surroundings: Surroundings, bound: float) -> None:
        self._ledger = ledger
        self._surroundings = surroundings
        self._bound = bound
        self._accepted: dict[int, Record] = {}
        """By token: the accepting validation that began last."""
        self._refused: dict[int, Record] = {}
        """By token: the refusing validation that ended first."""
        self._expired: dict[int, Record] = {}
        self._answers: dict[tuple[int, bool], Record] = {}
        """By token and strength: the active answer of a node to the call that began last."""
        self.accepted = self.refused = self.stale = self.answers = 0

    def feed(self, record: Record) -> None:
        """Take a record."""
        if record["k"] == "validated":
            self.answers += 1
            if record["active"]:
                self._last(self._answers, (record["n"], record["strong"]), record)
            elif record["reason"] == "REVOKED":
                self._first_refused(record["n"], record)
        elif record["k"] == "pass":
            self.stale += record["st"]
            for number in from_ranges(record["ok"]):
                self.accepted += 1
                self._last(self._accepted, number, record)
                token = self._ledger.tokens.get(number)
                if token is not None and record["wall"] > token["exp"] + LEEWAY + _TICK:
                    self._expired.setdefault(number, record)
            for reason, numbers in record["no"].items():
                for number in from_ranges(numbers):
                    self.refused += 1
                    if reason == "REVOKED":
                        self._first_refused(number, record)

    def findings(self) -> list[Finding]:
        """Return the findings so far."""
        return [*self._late(), *self._answered(), *self._after_expiry(), *self._without_cause()]

    def forget(self, before: float) -> None:
        """Drop records that ended before `before` and led to no finding."""
        self._accepted = _ended_since(before, self._accepted)
        self._refused = _ended_since(before, self._refused)
        self._answers = _ended_since(before, self._answers)

    def _late(self) -> list[Finding]:
        found = []
        for number, record in self._accepted.items():
            revocation = self._ledger.must_be_refused(number)
            if revocation is None or revocation.acknowledged is None:
                continue
            late = record["b"] - revocation.acknowledged
            if late > self._bound:
                zero = revocation.acknowledged
                before, after = (_state(record[name], zero) for name in ("s0", "s1"))
                found.append(
                    Finding(
                        "accepted as fresh after S",
                        f"token {number} was accepted by validator {record['v']} in a validation that began "
                        f"{late:.3f} s after its revocation was acknowledged; S is {self._bound} s\n"
                        f"  times are relative to the acknowledgment of revocation {revocation.number} "
                        f"({revocation.target}), sent {revocation.at - zero:+.3f} s, cursor {revocation.cursor}\n"
                        f"    validator before: {before}\n    validator after {record['e'] - zero:+.3f} s: {after}\n"
                        + self._surroundings.around(zero - 2, record["e"] + 1, zero),
                    )
                )
        return found

    def _answered(self) -> list[Finding]:
        found = []
        for (number, strong), record in self._answers.items():
            revocation = self._ledger.must_be_refused(number)
            if revocation is None or revocation.acknowledged is None:
                continue
            late = record["b"] - revocation.acknowledged
            if late > (0 if strong else LOCAL_BOUND):
                zero = revocation.acknowledged
                found.append(
                    Finding(
                        "a node answered that a revoked token is active",
                        f"token {number}, {'CONSISTENCY_STRONG' if strong else 'CONSISTENCY_LOCAL'}, asked "
                        f"{late:.3f} s after its revocation {revocation.number} ({revocation.target}) was acknowledged "
                        f"at cursor {revocation.cursor}; the answer has cursor {record['cursor']}\n"
                        + self._surroundings.around(zero - 2, record["e"] + 1, zero),
                    )
                )
        return found

    def _after_expiry(self) -> list[Finding]:
        found = []
        for number, record in self._expired.items():
            process = record["v"].rpartition(".")[0]
            begin, end = record["b"] - _CLOCK_MARGIN, record["e"] + _CLOCK_MARGIN
            moved = self._surroundings.faults(begin, end, "clock", process)
            if any(
                begin <= moment <= end
                for fault in moved
                for moment in (fault["at"], fault["until"])
                if moment is not None
            ):
                continue  # its clock was moved at this time
            token = self._ledger.tokens[number]
            found.append(
                Finding(
                    "accepted after its expiry",
                    f"token {number} by validator {record['v']}, {record['wall'] - token['exp']:.3f} s after its exp by "
                    f"its own clock\n" + self._surroundings.around(begin, end, record["b"]),
                )
            )
        return found

    def _without_cause(self) -> list[Finding]:
        return [
            Finding(
                "refused as revoked without a revocation",
                f"token {number} by {record.get('v', 'a node')}; no revocation that could have hit it was sent before\n"
                + self._ledger.of_token(number, record["e"])
                + self._surroundings.around(record["b"] - 5, record["e"] + 1, record["e"]),
            )
            for number, record in self._refused.items()
            if not self._ledger.may_be_refused(number, record["e"])
        ]

    @staticmethod
    def _last(records: dict[KeyT, Record], key: KeyT, record: Record) -> None:
        known = records.get(key)
        if known is None or record["b"] > known["b"]:
            records[key] = record

    def _first_refused(self, number: int, record: Record) -> None:
        known = self._refused.get(number)
        if known is None or record["e"] < known["e"]:
            self._refused[number] = record


def _ended_since(before: float, records: dict[KeyT, Record]) -> dict[KeyT, Record]:
    return {key: record for key, record in records.items() if record["e"] >= before}


def _state(state: list[object], zero: float) -> str:
    cursor, proven, until, version, *_ = state
    times = " to ".join(
        "never" if not isinstance(time, float) else f"{time - zero:+.3f} s" for time in (proven, until)
    )
    return f"cursor {cursor or 'none'}, proof {times}, set version {version}"
