"""Audit events of the refusals of validators, added up for a minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Final

from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.subscribers.validations import ValidationReports

INTERVAL: Final = 60.0
"""Seconds between two events of a node."""
MAX_NAMED: Final = 50
"""Subscribers with most refusals that one event names. Those of the others are added up."""
MAX_COUNTED: Final = 10_000
"""Subscribers whose refusals are counted apart between two events."""
_ACTOR: Final = Actor.system("validators")


class RefusalReports:
    """Adds the refusals up that subscribers report to this node. Belongs to one event loop."""

    def __init__(self, validations: ValidationReports, audit: Audit) -> None:
        self._audit = audit
        self._of: dict[str, Counter[str]] = {}
        self._others: Counter[str] = Counter()
        validations.on_refusals(self._add)

    async def run(self) -> None:
        """Record an event a minute until cancelled, then one for the rest."""
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                self.record()
        finally:
            self.record()

    def record(self) -> None:
        """Record the refusals since the last event; nothing without any."""
        counted, self._of = self._of, {}
        others, self._others = self._others, Counter()
        ranked = sorted(counted.items(), key=lambda item: (-item[1].total(), item[0]))
        for _, refusals in ranked[MAX_NAMED:]:
            others.update(refusals)
        total: Counter[str] = Counter(others)
        for _, refusals in ranked[:MAX_NAMED]:
            total.update(refusals)
        if not total:
            return
        self._audit.record(
            AuditEvent(
                action=Action.REFUSALS_REPORTED,
                actor=_ACTOR,
                target=Target("validators"),
                fields={
                    "total": total.total(),
                    "reasons": dict(total),
                    "subscribers": {name: dict(refusals) for name, refusals in ranked[:MAX_NAMED]},
                    "other_subscribers": dict(others),
                },
            )
        )

    def _add(self, subscriber: str, refusals: Mapping[str, int]) -> None:
        """Add a report. A subscriber without a name counts with the others."""
        if not subscriber or (subscriber not in self._of and len(self._of) >= MAX_COUNTED):
            self._others.update(refusals)
        else:
            self._of.setdefault(subscriber, Counter()).update(refusals)
