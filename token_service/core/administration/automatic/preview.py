"""PreviewAutomaticRevocation: what each rule would revoke now. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.automatic.limits import LimitCheck
from token_service.core.administration.automatic.rules import AutomaticRules, Cause, Threshold
from token_service.core.administration.automatic.thresholds import key_of
from token_service.core.events.store import AuditFilter, AuditStore
from token_service.core.policies.policies import Policies
from token_service.core.sessions.selection import MAX_SESSIONS_COUNTED, Accuracy
from token_service.core.sessions.walk import MAX_WALKED, SessionWalk
from token_service.durations import duration_text

_MAX_EVENTS: Final = 2000
"""Events that the preview of one threshold reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePreview:
    """What one rule would revoke now."""

    rule: str
    """Its place in the policy file, below `automatic_revocation`."""
    cause: Cause
    limit: str
    revokes: str
    """`session`, `subject` or `client`."""
    targets: int
    accuracy: Accuracy
    dry_run: bool


@dataclass(frozen=True, slots=True)
class AutomaticSources:
    """What a preview reads."""

    rules: Callable[[], AutomaticRules]
    policies: Policies
    walk: SessionWalk
    events: AuditStore


class AutomaticPreviews:
    """Previews the rules in force."""

    def __init__(self, sources: AutomaticSources) -> None:
        self._from = sources

    async def preview(self, caller: Caller, now: float) -> Sequence[RulePreview]:
        """Return the rules in force, each with what it would revoke now.

        Raises `PermissionDeniedError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.PREVIEW_AUTOMATIC_REVOCATION)
        rules = self._from.rules()
        found = await self._limits(rules, now)
        return [*found, *[await self._threshold(each, now) for each in rules.thresholds.values()]]

    async def _limits(self, rules: AutomaticRules, now: float) -> Sequence[RulePreview]:
        policies = self._from.policies
        check = LimitCheck(rules.limits, policies.book, policies.classification, now)
        counted: Counter[tuple[str, Cause]] = Counter()
        accuracy = Accuracy.EXACT
        if (where := check.where) is not None:
            after = None
            for _ in range(MAX_SESSIONS_COUNTED // MAX_WALKED):
                part = await self._from.walk.part(where, live_at=now, limit=MAX_WALKED, after=after)
                past = [each for session in part.sessions if (each := check.excess(session)) is not None]
                counted.update((each.classification, each.cause) for each in past)
                after = part.next
                if after is None:
                    break
            else:
                accuracy = Accuracy.AT_LEAST
        return [
            RulePreview(
                rule=f"classifications.{name}",
                cause=cause,
                limit=limit,
                revokes="session",
                targets=counted[name, cause],
                accuracy=accuracy,
                dry_run=rules.dry_run,
            )
            for name, limits in rules.limits.items()
            for cause, limit in (
                (Cause.AGE, _span(limits.max_session_age)),
                (Cause.INACTIVITY, _span(limits.max_inactivity)),
                (
                    Cause.CLASSIFICATION,
                    "a less strict classification at the login" if limits.on_classification_change else "",
                ),
            )
            if limit
        ]

    async def _threshold(self, rule: Threshold, now: float) -> RulePreview:
        where = AuditFilter(actions=tuple(sorted(rule.actions)), since=now - rule.window)
        rows = await self._from.events.list(where, limit=_MAX_EVENTS, after=None)
        keys = Counter(key for row in rows if (key := key_of(rule.per, row)))
        return RulePreview(
            rule=f"thresholds.{rule.name}",
            cause=Cause.THRESHOLD,
            limit=f"{rule.count} events of a {rule.per} within {duration_text(rule.window)}",
            revokes=rule.revoke.value,
            targets=sum(count >= rule.count for count in keys.values()),
            accuracy=Accuracy.AT_LEAST if len(rows) == _MAX_EVENTS else Accuracy.EXACT,
            dry_run=rule.dry_run,
        )


def _span(seconds: int | None) -> str:
    return "" if seconds is None else duration_text(seconds)
