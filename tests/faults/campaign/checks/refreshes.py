"""A refresh token never has two live successors, and a refresh whose answer was lost succeeds in the grace period."""

from __future__ import annotations

from collections import defaultdict

from tests.faults.campaign.checks.finding import Finding, Surroundings
from tests.faults.campaign.checks.ledger import Ledger
from tests.faults.campaign.history import Record
from tests.faults.campaign.plan import GRACE


class Refreshes:
    """Judges rotations."""

    def __init__(self, ledger: Ledger, surroundings: Surroundings) -> None:
        self._ledger = ledger
        self._surroundings = surroundings
        self._successors: defaultdict[str, list[Record]] = defaultdict(list)
        self._refused: list[Record] = []
        self._of_session: dict[str, Record] = {}
        self.rotations: dict[str, int] = {}
        """By session: the number of different tokens whose exchange was acknowledged."""
        self.count = 0

    def feed(self, record: Record) -> None:
        """Take a record."""
        if record["k"] == "refreshed":
            self.count += 1
            known = self._successors[record["old"]]
            if not known:
                self.rotations[record["session"]] = self.rotations.get(record["session"], 0) + 1
            known.append(record)
        elif record["k"] == "refresh_refused":
            self._refused.append(record)
        elif record["k"] == "token":
            self._of_session.setdefault(record["session"], record)

    def findings(self) -> list[Finding]:
        """Return the findings so far."""
        return [*self._two_successors(), *self._not_repeated()]

    def _two_successors(self) -> list[Finding]:
        found = []
        for old, answers in self._successors.items():
            different = {answer["new"] for answer in answers}
            if len(different) > 1:
                found.append(
                    Finding(
                        "two successors of one refresh token",
                        f"{old} of session {answers[0]['session']} was exchanged for {sorted(different)}",
                    )
                )
            for answer in answers:
                # Time of the first answer to an exchange of the successor.
                used = min((each["e"] for each in self._successors.get(answer["new"], ())), default=None)
                if used is not None and answer["b"] > used:
                    zero = used
                    found.append(
                        Finding(
                            "two live successors of one refresh token",
                            f"{old} of session {answer['session']} was accepted in a call that began {answer['b'] - zero:.3f} s "
                            f"after its successor {answer['new']} was exchanged\n"
                            + self._surroundings.around(zero - 2, answer["e"] + 1, zero),
                        )
                    )
        return found

    def _not_repeated(self) -> list[Finding]:
        found = []
        for record in self._refused:
            token = self._of_session.get(record["session"])
            # The service itself ended a session that is refused for reuse; that does not excuse the refusal.
            told = record["reason"] == "REFRESH_TOKEN_REUSED"
            if token is None or self._ledger.may_have_ended(token, record["e"], told=told):
                continue
            # A clock that is an hour ahead ends the grace period early.
            if self._surroundings.faults(record["first"] - GRACE, record["e"], "clock"):
                continue
            if record["e"] - record["first"] < GRACE / 2:
                found.append(
                    Finding(
                        "a refresh was refused in its grace period",
                        f"{record['old']} of session {record['session']}: {record['reason']}, "
                        f"{record['e'] - record['first']:.3f} s after its first presentation\n"
                        + self._surroundings.around(record["first"] - 2, record["e"] + 1, record["first"]),
                    )
                )
        return found
