"""Limits on sessions: which sessions are past the limits of the classification of their client, and by what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from token_service.core.administration.automatic.rules import Cause, SessionLimits
from token_service.core.policies.policy import PolicyBook, is_stricter
from token_service.core.sessions.walk import WalkedSession, WalkFilter
from token_service.durations import duration_text

_NONE: Final = SessionLimits()


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a session is past."""

    session: WalkedSession
    cause: Cause
    classification: str
    """The present classification of the client, whose limit it is."""
    limit: int | str
    """Seconds, or the classification at the login."""
    measured: int | str
    """Seconds, or the present classification."""

    def fields(self) -> Mapping[str, object]:
        """Return the fields of the audit event that show the cause."""
        return {
            "cause": self.cause.value,
            "rule": f"classifications.{self.classification}",
            "limit": self.limit,
            "measured": self.measured,
        }

    def comment(self) -> str:
        """Return what explains the revocation to people."""
        if isinstance(self.limit, str):
            return f"automatic: the classification of the client has changed from {self.limit} to {self.measured}"
        what = "older" if self.cause is Cause.AGE else "unused for longer"
        return f"automatic: {what} than {duration_text(self.limit)}, the limit of {self.classification}"


class LimitCheck:
    """Checks sessions against limits at one time. Does no I/O."""

    def __init__(
        self,
        limits: Mapping[str, SessionLimits],
        book: PolicyBook,
        classification: Callable[[str], str],
        now: float,
        *,
        with_classification: bool = True,
    ) -> None:
        """`classification` returns the present classification of a client.

        `with_classification`: whether changed classifications count. They need a look at every session.
        """
        self._limits = limits
        self._book = book
        self._classification = classification
        self._now = now
        self._with_classification = with_classification

    @property
    def where(self) -> WalkFilter | None:
        """The sessions that may be past a limit; None: no session can be."""
        ages = [each.max_session_age for each in self._limits.values() if each.max_session_age is not None]
        idle = [each.max_inactivity for each in self._limits.values() if each.max_inactivity is not None]
        classified = self._with_classification and any(
            each.on_classification_change for each in self._limits.values()
        )
        if not (ages or idle or classified):
            return None
        return WalkFilter(
            created_before=self._now - min(ages) if ages else None,
            used_before=self._now - min(idle) if idle else None,
            classified=classified,
        )

    def excess(self, session: WalkedSession) -> Excess | None:
        """Return the limit that a session is past; None: it is past none.

        A personal access token is not a login: it may be old and rarely used, so only the classification counts.
        """
        present = self._classification(session.client_id)
        limits = self._limits.get(present, _NONE)
        if (
            self._with_classification
            and limits.on_classification_change
            and session.classification not in {"", present}
            and self._became_stricter(session.classification, present)
        ):
            return Excess(session, Cause.CLASSIFICATION, present, session.classification, present)
        if session.is_personal:
            return None
        age, idle = int(self._now - session.create_time), int(self._now - session.last_use_time)
        if limits.max_session_age is not None and age >= limits.max_session_age:
            return Excess(session, Cause.AGE, present, limits.max_session_age, age)
        if limits.max_inactivity is not None and idle >= limits.max_inactivity:
            return Excess(session, Cause.INACTIVITY, present, limits.max_inactivity, idle)
        return None

    def _became_stricter(self, before: str, present: str) -> bool:
        """Tell whether a classification is stricter than an earlier one. One that the policy file has lost is not known."""
        policies = self._book.policies
        return before in policies and present in policies and is_stricter(policies[present], policies[before])
