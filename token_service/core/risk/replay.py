"""The replay of recorded uses: what rules would have said about each, and what would have followed.

A replay judges with the code of the service. It keeps what the service keeps in the row of a session, counts as one process
counts, and lets a verdict that refuses have its effect on the uses after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

import msgspec
from msgspec import structs

from token_service.core.access.counters import Counters
from token_service.core.risk.history import after
from token_service.core.risk.location import Locator
from token_service.core.risk.observation import History, Observation, Seen, Use
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.verdict import RiskAction, Verdict
from token_service.core.risk.watch import RiskWatch

MAX_EXAMPLES: Final = 20
"""Verdicts that an outcome shows whole."""
MAX_SESSIONS: Final = 1_000_000
"""Sessions whose history a replay keeps. The session without a use for the longest time gives way."""


class RecordedUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A use of a session as it was recorded. `time` is in seconds since the Unix epoch."""

    time: float
    use: Use = Use.REFRESH
    session_id: str = ""
    subject: str = ""
    client_id: str = ""
    address: str = ""
    user_agent: str = ""
    device_id: str = ""
    is_reuse: bool = False
    """Whether a refresh token was reused: the session ended, and the subject is remembered."""
    attack: str = ""
    """In a synthetic workload: the kind of the attack that this use belongs to."""


@dataclass(slots=True)
class Outcome:
    """What would have happened."""

    uses: int = 0
    sessions: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """By action."""
    signals: Counter[str] = field(default_factory=Counter)
    sessions_with: dict[str, set[str]] = field(default_factory=dict)
    """The sessions, or subjects without one, with a verdict of each action."""
    prevented: int = 0
    """Uses that a revocation before them would have refused."""
    examples: list[tuple[RecordedUse, Verdict]] = field(default_factory=list)
    """The first verdicts with the highest scores."""

    def add(self, use: RecordedUse, verdict: Verdict) -> None:
        """Count a verdict that calls for an action."""
        self.verdicts[verdict.action.value] += 1
        self.signals.update(each.signal for each in verdict.evidence)
        self.sessions_with.setdefault(verdict.action.value, set()).add(use.session_id or use.subject)
        self.examples.append((use, verdict))
        if len(self.examples) > 10 * MAX_EXAMPLES:
            self.trim()

    def trim(self) -> None:
        """Keep only the examples that are shown."""
        self.examples.sort(key=lambda each: (-each[1].score, each[0].time))
        del self.examples[MAX_EXAMPLES:]


class Replay:
    """Judges recorded uses in the order of their times."""

    def __init__(
        self,
        rules: RiskRules,
        locator: Locator | None,
        *,
        classification: Callable[[str], str] = lambda _: "",
        access_token_ttl: Callable[[str], float] = lambda _: 900.0,
    ) -> None:
        """`classification` and `access_token_ttl` (seconds) are those of a client."""
        self._classification = classification
        self._access_token_ttl = access_token_ttl
        self._now = 0.0
        self._watch = RiskWatch(Counters(lambda: self._now), lambda: self._now, log=lambda: "replay")
        self._watch.replace(rules)
        self._watch.replace_locator(locator)
        self._histories: dict[str, History] = {}
        self._ended: dict[str, None] = {}
        """Sessions that a verdict revoked, or a reuse."""
        self._ended_subjects: dict[str, float] = {}
        self._created: dict[str, float] = {}
        self.outcome: Final = Outcome()

    async def replay(self, uses: Iterable[RecordedUse]) -> Outcome:
        """Judge all uses, which must be in the order of their times."""
        for use in uses:
            await self.judge(use)
        self.outcome.trim()
        return self.outcome

    async def judge(self, use: RecordedUse) -> Verdict | None:
        """Judge the next use, and let the verdict have its effect. None: an earlier verdict had ended its session."""
        outcome, watch = self.outcome, self._watch
        self._now = max(self._now, use.time)
        outcome.uses += 1
        if use.is_reuse:
            watch.note_reuse(use.client_id, use.subject)
            self._ended[use.session_id] = None
            return None
        if self._is_ended(use):
            outcome.prevented += 1
            return None
        await watch.count_issuance(use.client_id, use.subject)
        known = self._history(use)
        marks = watch.marks_of(use.client_id, use.subject)
        observation = Observation(
            use=use.use,
            time=use.time,
            session_id="" if use.use is Use.ISSUE else use.session_id,
            subject=use.subject,
            client_id=use.client_id,
            classification=self._classification(use.client_id),
            address=use.address,
            user_agent=use.user_agent,
            device_id=use.device_id,
            access_token_ttl=self._access_token_ttl(use.client_id),
            history=marks
            if use.use is Use.ISSUE
            else structs.replace(
                marks, origins=known.origins, renewed=known.renewed, quick_renewals=known.quick_renewals
            ),
        )
        verdict = watch.judge(observation)
        if verdict.action is not RiskAction.NONE:
            outcome.add(use, verdict)
        if verdict.acts and verdict.action.refuses:
            await self._refuse(use, verdict)
        elif use.use is not Use.ISSUE:
            self._remember(use.session_id, after(observation, watch.rhythm))
        return verdict

    def login(self, use: RecordedUse) -> None:
        """Let the subject of a refused use log in again at its origin: the session begins again."""
        self._ended.pop(use.session_id, None)
        self._ended_subjects.pop(use.subject, None)
        seen = Seen(use.time, use.address, use.user_agent, use.device_id)
        self._remember(use.session_id, History(origins=(seen,) if seen.address or seen.user_agent else ()))

    def _history(self, use: RecordedUse) -> History:
        """Return what the session of a use has kept. A session that is not known begins with this use."""
        known = self._histories.get(use.session_id)
        if known is None:
            seen = Seen(use.time, use.address, use.user_agent, use.device_id)
            known = History(origins=(seen,) if seen.address or seen.user_agent else (), renewed=None)
            if use.session_id:
                self.outcome.sessions += 1
                self._created[use.session_id] = use.time
                self._remember(use.session_id, known)
        return known

    def _remember(self, session_id: str, history: History) -> None:
        if not session_id:
            return
        self._histories.pop(session_id, None)
        if len(self._histories) >= MAX_SESSIONS:
            oldest = next(iter(self._histories))
            del self._histories[oldest]
            self._created.pop(oldest, None)
        self._histories[session_id] = history

    async def _refuse(self, use: RecordedUse, verdict: Verdict) -> None:
        if verdict.action is RiskAction.REVOKE_SUBJECT:
            self._ended_subjects[use.subject] = use.time
        elif verdict.action is RiskAction.REVOKE_SESSION and use.session_id:
            self._ended[use.session_id] = None
        elif verdict.action is RiskAction.REFUSE:
            await self._watch.count_refusal(use.client_id, use.subject)

    def _is_ended(self, use: RecordedUse) -> bool:
        """Tell whether a verdict has ended the session of a use."""
        if not use.session_id or use.use is Use.ISSUE:
            return False
        end = self._ended_subjects.get(use.subject)
        if end is not None and self._created.get(use.session_id, inf) <= end:
            return True
        return use.session_id in self._ended
