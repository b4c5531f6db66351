"""The judge: what the rules say about a use."""

from __future__ import annotations

from token_service.core.risk.location import Locator
from token_service.core.risk.observation import Observation
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.signals import Scene
from token_service.core.risk.verdict import Evidence, RiskAction, Verdict


class RiskJudge:
    """Judges uses by rules. Pure: the same observation gets the same verdict."""

    def __init__(self, rules: RiskRules, locator: Locator | None = None) -> None:
        """Without `locator` no location is known."""
        self.rules = rules
        self._locator = locator

    def judge(self, observation: Observation) -> Verdict:
        """Return the verdict about a use. Never raises."""
        scene = Scene(observation, self._locator)
        evidence = tuple(
            Evidence(signal.name, signal.weight, detail)
            for signal in self.rules.signals
            if (detail := signal.detect(scene))
        )
        score = min(100, sum(each.weight for each in evidence))
        action = self.rules.action(observation.classification, score) if evidence else RiskAction.NONE
        here = scene.here
        return Verdict(
            score, action, evidence, dry_run=self.rules.dry_run, country="" if here is None else here.country
        )
