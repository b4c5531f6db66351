"""The keys report: the life of each signing key, and the other changes of keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.reports.trail.administration import what
from token_service.core.reports.trail.collector import (
    columns,
    fields_of,
    listing,
    personal,
    place,
    shortened,
    text_in,
)
from token_service.core.reports.trail.counting import Latest
from token_service.core.reports.trail.document import Chart, Content, Figure, Table
from token_service.core.reports.trail.period import Period, time_text
from token_service.core.reports.trail.reading import TrailRead

MAX_SIGNING_KEYS: Final = 1000
_STEPS: Final = {
    Action.SIGNING_KEY_PREPARED.value: 0,
    Action.SIGNING_KEY_ACTIVATED.value: 1,
    Action.SIGNING_KEY_RETIRED.value: 2,
    Action.REVOKED.value: 3,
    Action.SIGNING_KEY_FORGOTTEN.value: 4,
}
"""The steps in the life of a signing key, in their order."""
_OTHERS: Final = frozenset({
    Action.SIGNING_KEY_CERTIFIED.value,
    Action.MAC_KEY_PREPARED.value,
    Action.KEYS_REWRAPPED.value,
    Action.PERSONAL_DATA_KEY_CREATED.value,
})  # fmt: skip
_NAMES: Final = (
    ("prepared", "Prepared"),
    ("activated", "Activated"),
    ("retired", "Retired"),
    ("revoked", "Revoked"),
    ("forgotten", "Deleted"),
)
_ONLY_WITH_EVENTS: Final = (
    "A key is listed with the steps that it took in this range. A key without a step in it, such as one that signed during "
    "the whole range, is not listed."
)


@dataclass(slots=True)
class _Life:
    """A signing key: the time of the first event of each step, 0 without one."""

    times: list[int]
    algorithm: str = ""


class Keys:
    """Collects the keys report."""

    def __init__(self, period: Period) -> None:
        self._lives: dict[str, _Life] = {}
        self._counts = [0] * len(_NAMES)
        self._other = 0
        self._dropped = False
        self._latest = Latest()

    def take(self, row: AuditRow) -> None:
        """See `Collector.take`."""
        step = _STEPS.get(row.action)
        if step is None and row.action not in _OTHERS:
            return
        if row.action == Action.REVOKED and row.target_kind != "key":
            return
        fields = fields_of(row)
        self._latest.add(
            place(row),
            (
                time_text(row.time),
                row.action,
                row.target_id,
                f"{row.actor_kind}:{row.actor_name}",
                shortened(what(fields)),
                row.reason,
                shortened(personal(row, row.comment)),
            ),
        )
        if step is None:
            self._other += 1
            return
        self._counts[step] += 1
        life = self._lives.get(row.target_id)
        if life is None:
            if len(self._lives) >= MAX_SIGNING_KEYS:
                self._dropped = True
                return
            life = self._lives[row.target_id] = _Life([0] * len(_NAMES))
        life.algorithm = life.algorithm or text_in(fields, "algorithm")
        known = life.times[step]
        life.times[step] = min(known, row.time) if known else row.time

    def content(self, read: TrailRead) -> Content:
        """See `Collector.content`."""
        lives = sorted(
            self._lives.items(), key=lambda item: (min(filter(None, item[1].times), default=0), item[0])
        )
        figures = [
            Figure(name, label, count) for (name, label), count in zip(_NAMES, self._counts, strict=True)
        ]
        dropped = f"Keys beyond {MAX_SIGNING_KEYS} are counted but not listed." if self._dropped else ""
        return Content(
            [*figures, Figure("other", "Other changes of keys", self._other)],
            [
                Table(
                    name="signing_keys",
                    title="Signing keys",
                    columns=columns(("key_id", "Key"), ("algorithm", "Algorithm"), *_NAMES),
                    rows=[
                        (key_id, life.algorithm, *(time_text(time) if time else "" for time in life.times))
                        for key_id, life in lives
                    ],
                    note=dropped,
                    chart=Chart.LANES,
                ),
                listing(
                    "changes",
                    "Changes of keys",
                    columns(
                        ("time", "Time (UTC)"),
                        ("action", "Action"),
                        ("key_id", "Key"),
                        ("actor", "Actor"),
                        ("what", "What"),
                        ("reason", "Reason"),
                        ("comment", "Comment"),
                    ),
                    self._latest,
                ),
            ],
            [_ONLY_WITH_EVENTS],
        )
