"""Verdicts: the score of a use, the action that it calls for, and the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec


class RiskAction(StrEnum):
    """The action that a verdict calls for. A later one is more severe."""

    NONE = "none"
    ALERT = "alert"
    """Write an event."""
    STEP_UP = "step_up"
    """Demand a new authentication of the subject (RFC 9470)."""
    REFUSE = "refuse"
    REVOKE_SESSION = "revoke_session"
    REVOKE_SUBJECT = "revoke_subject"
    """Revoke all sessions of the subject."""

    @property
    def severity(self) -> int:
        """The place in the order of severity; 0: none."""
        return _SEVERITIES[self]

    @property
    def refuses(self) -> bool:
        """Whether the use gets no token."""
        return self.severity >= RiskAction.STEP_UP.severity


_SEVERITIES: Final = {action: place for place, action in enumerate(RiskAction)}

ACTIONS: Final = tuple(action for action in RiskAction if action is not RiskAction.NONE)
"""The actions that a threshold can have."""


class Evidence(msgspec.Struct, frozen=True):
    """A signal that a use gave."""

    signal: str
    weight: int
    detail: str
    """Plain text without personal data."""


class Verdict(msgspec.Struct, frozen=True):
    """The judgment of one use."""

    score: int
    """From 0 to 100: the sum of the weights, 100 at most."""
    action: RiskAction
    evidence: tuple[Evidence, ...] = ()
    dry_run: bool = False
    """Whether the action is only recorded."""
    country: str = ""
    """The country of the use, two letters; empty: unknown."""

    @property
    def acts(self) -> bool:
        """Whether the action is carried out, not only recorded."""
        return self.action is not RiskAction.NONE and not self.dry_run

    def explain(self) -> str:
        """Return the verdict as one line of text."""
        what = f"score {self.score}: {self.action.value.replace('_', ' ')}"
        if self.dry_run:
            what += " (dry run)"
        return what + "".join(f"; {each.signal} +{each.weight}: {each.detail}" for each in self.evidence)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the event `risk.detected`."""
        return {
            "score": self.score,
            "action": self.action.value,
            "evidence": evidence_fields(self.evidence),
            "dry_run": self.dry_run,
            "country": self.country,
        }


NO_RISK: Final = Verdict(0, RiskAction.NONE)


def evidence_fields(evidence: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Return evidence as values of JSON."""
    return [{"signal": each.signal, "weight": each.weight, "detail": each.detail} for each in evidence]
