"""The description of an alert, without the format of Prometheus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """What an alert asks for."""

    CRITICAL = "critical"
    """Act now: calls fail, or a promise of the service is broken."""
    WARNING = "warning"
    """Act during the day: it becomes critical if it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert. The texts may have the templates of Prometheus, such as `{{ $value }}`."""

    name: str
    query: str
    hold: int
    """Seconds for which the query must find something before the alert fires."""
    severity: Severity = Severity.WARNING
    summary: str
    text: str
    """The problem, with the value."""
    page: str = ""
    """The name of the runbook; empty: the name of the alert in lower case."""

    @property
    def full_name(self) -> str:
        """The name in Prometheus, which the alerts of other services share."""
        return f"TokenService{self.name}"

    @property
    def runbook(self) -> str:
        """The name of the file with the runbook."""
        return f"{self.page or re.sub(r'(?<!^)(?=[A-Z])', '-', self.name).lower()}.md"


@dataclass(frozen=True, slots=True)
class Group:
    """Alerts about one subject."""

    name: str
    alerts: Sequence[Alert]
