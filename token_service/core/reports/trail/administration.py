"""The administration report: who changed clients, policies and keys, and who revoked what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import ACTOR_SESSION, Action, Category
from token_service.core.reports.trail.collector import (
    Series,
    columns,
    fields_of,
    listing,
    personal,
    place,
    shortened,
    text_in,
)
from token_service.core.reports.trail.counting import Counts, Latest
from token_service.core.reports.trail.document import Chart, Content, Figure, Table
from token_service.core.reports.trail.period import Period, time_text
from token_service.core.reports.trail.reading import TrailRead
from token_service.core.reports.trail.usage import others

_GROUPS: Final = (
    ("clients", "Clients"),
    ("policies", "Policies"),
    ("keys", "Keys"),
    ("revocations", "Revocations"),
    ("other", "Other changes"),
)
_OTHER: Final = 4
_GROUP_OF_PREFIX: Final = {
    "client": 0,
    "policies": 1,
    "signing_key": 2,
    "mac_key": 2,
    "keys": 2,
    "personal_data_key": 2,
    "revoked": 3,
}
_SECURITY: Final = frozenset({Action.REVOKED.value, Action.SESSION_UPDATED.value})
"""Changes that are security events."""
_HIDDEN: Final = frozenset({"cursor", ACTOR_SESSION})
_HIDDEN_BESIDE_EFFECT: Final = frozenset({"before", "after"})


class Administration:
    """Collects the administration report."""

    def __init__(self, period: Period) -> None:
        self._series = Series(period, _GROUPS)
        self._actors = Counts(len(_GROUPS))
        self._actions = Counts(1)
        self._latest = Latest()

    def take(self, row: AuditRow) -> None:
        """See `Collector.take`."""
        if row.category != Category.ADMINISTRATIVE and row.action not in _SECURITY:
            return
        group = _GROUP_OF_PREFIX.get(row.action.partition(".")[0], _OTHER)
        fields = fields_of(row)
        self._series.add(row.time, group)
        self._actors.add((row.actor_kind, row.actor_name), group)
        self._actions.add((row.action,))
        self._latest.add(
            place(row),
            (
                time_text(row.time),
                row.action,
                f"{row.actor_kind}:{row.actor_name}",
                text_in(fields, ACTOR_SESSION),
                row.target_kind,
                personal(row, row.target) if row.target_kind == "subject" else row.target or row.session_id,
                shortened(what(fields)),
                row.reason,
                shortened(personal(row, row.comment)),
            ),
        )

    def content(self, read: TrailRead) -> Content:
        """See `Collector.content`."""
        totals = self._series.totals()
        figures = [Figure(name, label, total) for (name, label), total in zip(_GROUPS, totals, strict=True)]
        actors = self._actors.rows()
        return Content(
            [Figure("changes", "Changes", sum(totals)), *figures, Figure("actors", "Actors", len(actors))],
            [
                self._series.table("Changes"),
                Table(
                    name="by_actor",
                    title="Changes by actor",
                    columns=columns(("kind", "Kind"), ("actor", "Actor"), *_GROUPS),
                    rows=actors,
                    other=others(self._actors, 2),
                    chart=Chart.BARS,
                ),
                Table(
                    name="by_action",
                    title="Changes by action",
                    columns=columns(("action", "Action"), ("changes", "Changes")),
                    rows=self._actions.rows(),
                    chart=Chart.BARS,
                ),
                listing(
                    "changes",
                    "Changes",
                    columns(
                        ("time", "Time (UTC)"),
                        ("action", "Action"),
                        ("actor", "Actor"),
                        ("actor_session_id", "Session of the actor"),
                        ("target_kind", "Kind of target"),
                        ("target", "Target"),
                        ("what", "What"),
                        ("reason", "Reason"),
                        ("comment", "Comment"),
                    ),
                    self._latest,
                ),
            ],
        )


def what(fields: Mapping[str, Any]) -> str:
    """Return the fields of a change as text: what it changed from which value to which."""
    parts: list[str] = []
    for name, value in sorted(fields.items()):
        if name == "effect" and isinstance(value, dict):
            parts += [f"{path}: {_change(change)}" for path, change in sorted(value.items())]
        elif name not in _HIDDEN and not (name in _HIDDEN_BESIDE_EFFECT and "effect" in fields):
            parts.append(f"{name}: {_text(value)}")
    return "; ".join(parts)


def _change(change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return " -> ".join(_text(value) or "none" for value in change)
    return _text(change)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
