"""The watch of one process: the rules in force, and what it has counted lately.

What concerns one session is in its row, so it is the same on all nodes. Issuances and refusals of a subject are counted in
memory, or by all nodes together where these share counters. The marks of exceeded rates are in memory and bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from token_service.core.access.counters import Counters
from token_service.core.policies.rates import Rate
from token_service.core.risk.judge import RiskJudge
from token_service.core.risk.location import Locator
from token_service.core.risk.observation import History, Observation
from token_service.core.risk.rules import NO_RULES, RiskRules
from token_service.core.risk.signals import IssuanceRate, RecentRefusals, RefreshTokenReuse, RenewalRhythm
from token_service.core.risk.verdict import Verdict

MAX_MARKS: Final = 10_000
"""Marks of a process. The oldest one gives way to a new one."""
_ISSUANCES: Final = "issuances"
_REFUSALS: Final = "refusals"
_REUSES: Final = "reuses"


class RiskWatch:
    """Counts what hints at risk, and judges. Without rules it does nothing. For one event loop."""

    def __init__(self, counters: Counters, monotonic: Callable[[], float], *, log: Callable[[], str]) -> None:
        """`log` returns the epoch of the revocation log, which tells services with shared counters apart."""
        self._counters = counters
        self._monotonic = monotonic
        self._log = log
        self._locator: Locator | None = None
        self._marks: dict[tuple[str, str], float] = {}
        """The ends of marks on the monotonic clock, by kind and digest. The one that was set first comes first."""
        self._last_end = 0.0
        self._judge = RiskJudge(NO_RULES)

    @property
    def is_on(self) -> bool:
        """Whether there are rules."""
        return bool(self._judge.rules.signals)

    @property
    def rules(self) -> RiskRules:
        """The rules in force."""
        return self._judge.rules

    @property
    def rhythm(self) -> RenewalRhythm | None:
        """The rule about the rhythm of renewals; None: there is none."""
        return self._judge.rules.find(RenewalRhythm)

    @property
    def has_marks(self) -> bool:
        """Whether a subject may have a mark. While none has one, a use from the usual origin needs no look at its session."""
        return self._monotonic() < self._last_end

    def replace(self, rules: RiskRules) -> None:
        """Put other rules in force."""
        self._judge = RiskJudge(rules, self._locator)

    def replace_locator(self, locator: Locator | None) -> None:
        """Look addresses up in another database; None: look none up."""
        self._locator = locator
        self._judge = RiskJudge(self._judge.rules, locator)

    def judge(self, observation: Observation) -> Verdict:
        """Return the verdict about a use, by the rules in force."""
        return self._judge.judge(observation)

    async def count_issuance(self, client_id: str, subject: str) -> None:
        """Count tokens that are issued to a subject through a client."""
        rule = self._judge.rules.find(IssuanceRate)
        if rule is not None:
            await self._count(_ISSUANCES, rule.rate, client_id, subject)

    async def count_refusal(self, client_id: str, subject: str) -> None:
        """Count a refused use of a session of a subject."""
        rule = self._judge.rules.find(RecentRefusals)
        if rule is not None:
            await self._count(_REFUSALS, rule.rate, client_id, subject)

    def note_reuse(self, client_id: str, subject: str) -> None:
        """Remember that a refresh token of a subject was reused."""
        rule = self._judge.rules.find(RefreshTokenReuse)
        if rule is not None:
            self._mark(_REUSES, _digest(_REUSES, client_id, subject), rule.window)

    def marks_of(self, client_id: str, subject: str) -> History:
        """Return the recent counts of a subject of a client, in a history without origins."""
        return History(
            issuances=self._has_mark(_ISSUANCES, client_id, subject),
            refusals=self._has_mark(_REFUSALS, client_id, subject),
            reuses=self._has_mark(_REUSES, client_id, subject),
        )

    async def _count(self, kind: str, rate: Rate, client_id: str, subject: str) -> None:
        digest = _digest(kind, client_id, subject)
        wait = await self._counters.take(self._log(), digest, rate)
        if wait:
            self._mark(kind, digest, wait)

    def _mark(self, kind: str, digest: str, span: float) -> None:
        end = self._monotonic() + span
        self._marks.pop((kind, digest), None)
        if len(self._marks) >= MAX_MARKS:
            del self._marks[next(iter(self._marks))]
        self._marks[kind, digest] = end
        self._last_end = max(self._last_end, end)

    def _has_mark(self, kind: str, client_id: str, subject: str) -> int:
        if not self.has_marks:
            return 0
        key = kind, _digest(kind, client_id, subject)
        end = self._marks.get(key)
        if end is None:
            return 0
        if end <= self._monotonic():
            del self._marks[key]
            return 0
        return 1


def _digest(kind: str, client_id: str, subject: str) -> str:
    # A digest, because subjects must not be readable in the store.
    text = repr(("risk", kind, client_id, subject))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
