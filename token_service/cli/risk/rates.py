"""Detection and false positives of rules on the synthetic workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from token_service.cli.risk.workload import ATTACKS, TTL, WorkloadLocator
from token_service.core.risk.replay import RecordedUse, Replay
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.verdict import RiskAction


@dataclass(frozen=True, slots=True)
class AttackRate:
    """What rules found of the incidents of one attack."""

    attack: str
    incidents: int
    detected: int
    """Incidents with a verdict of any action."""
    refused: int
    """Incidents of which a use was refused, by a step-up or more."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The result for a workload."""

    uses: int
    """Uses of users, without attacks."""
    user_days: int
    alerts: int
    """Uses of users with a verdict that only alerts."""
    step_ups: int
    """Uses of users that were answered with a demand to authenticate, or refused."""
    revoked: int
    """Sessions of users that a verdict revoked."""
    attacks: Sequence[AttackRate]


async def measure(rules: RiskRules, uses: Sequence[RecordedUse], user_days: int) -> Rates:
    """Replay a workload. A user whose use is refused logs in again."""
    replay = Replay(rules, WorkloadLocator(), access_token_ttl=lambda _: TTL)
    incidents: dict[str, RiskAction] = {}
    honest = alerts = step_ups = revoked = 0
    for use in uses:
        verdict = await replay.judge(use)
        action = RiskAction.NONE if verdict is None else verdict.action
        if use.attack:
            known = incidents.get(use.attack, RiskAction.NONE)
            incidents[use.attack] = max(known, action, key=lambda each: each.severity)
            continue
        honest += 1
        if action.refuses:
            replay.login(use)
        if action.severity > RiskAction.REFUSE.severity:
            revoked += 1
        elif action.refuses:
            step_ups += 1
        elif action is not RiskAction.NONE:
            alerts += 1
    rates = []
    for attack in ATTACKS:
        found = [action for name, action in incidents.items() if name.partition("/")[0] == attack]
        rates.append(
            AttackRate(
                attack,
                len(found),
                sum(action is not RiskAction.NONE for action in found),
                sum(action.refuses for action in found),
            )
        )
    return Rates(honest, user_days, alerts, step_ups, revoked, rates)
