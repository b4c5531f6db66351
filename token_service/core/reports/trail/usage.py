"""The usage report: how many tokens were issued, refreshed, exchanged and revoked, when, and for which clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.reports.trail.collector import (
    Series,
    columns,
    fields_of,
    number_in,
    numbers_in,
    text_in,
)
from token_service.core.reports.trail.counting import Counts, Distinct
from token_service.core.reports.trail.document import Chart, Content, Figure, Table
from token_service.core.reports.trail.period import Period
from token_service.core.reports.trail.reading import TrailRead

_SERIES: Final = (
    ("issued", "Issued"),
    ("refreshed", "Refreshed"),
    ("exchanged", "Exchanged"),
    ("revoked", "Revoked"),
    ("reused", "Reused"),
    ("refused", "Refused calls"),
    ("refused_by_validators", "Refused by validators"),
    ("expired", "Sessions expired"),
)
_TOKENS: Final = 3
"""The series of tokens that the service made come first."""
_REVOKED: Final = 3
_REUSED: Final = 4
_COLUMN: Final = {
    Action.TOKEN_ISSUED.value: 0,
    Action.TOKEN_REFRESHED.value: 1,
    Action.TOKEN_EXCHANGED.value: 2,
    Action.REVOKED.value: _REVOKED,
    Action.REFRESH_TOKEN_REUSED.value: _REUSED,
    Action.PERMISSION_DENIED.value: 5,
    Action.QUOTA_EXCEEDED.value: 5,
    Action.CLIENT_AUTHENTICATION_FAILED.value: 5,
    Action.REFUSALS_REPORTED.value: 6,
    Action.SESSION_EXPIRED.value: 7,
}
NO_ROUTINE: Final = (
    "The trail has no routine event of this range, so tokens issued, refreshed and exchanged are not counted. Nodes write "
    "them to the trail with TOKEN_SERVICE_AUDIT_ROUTINE=sql or events."
)
_ESTIMATED: Final = "The number of sessions is an estimate, with an error of about 0.5 %."


class Usage:
    """Collects the usage report."""

    def __init__(self, period: Period) -> None:
        self._series = Series(period, _SERIES)
        self._clients = Counts(len(_SERIES))
        self._classifications = Counts(_TOKENS)
        self._reasons = Counts(1)
        self._sessions = Distinct()

    def take(self, row: AuditRow) -> None:
        """See `Collector.take`."""
        column = _COLUMN.get(row.action)
        if column is None:
            return
        if column < _TOKENS and (classification := text_in(fields_of(row), "classification")):
            self._classifications.add((classification,), column)
        if column <= _REUSED:
            self._count(row, column, row.client_id or row.actor_client_id, 1)
        else:
            self._take_counts(row, column, fields_of(row))
        if row.session_id:
            self._sessions.add(row.session_id)

    def _take_counts(self, row: AuditRow, column: int, fields: Mapping[str, Any]) -> None:
        """Take an event that stands for several calls, refusals or sessions."""
        amount = amount_of(row.action, fields)
        if row.action == Action.SESSION_EXPIRED:
            clients = numbers_in(fields, "clients")
            for client_id, number in clients.items():
                self._count(row, column, client_id, number)
            amount -= sum(clients.values())
        elif row.action == Action.REFUSALS_REPORTED:
            for reason, number in numbers_in(fields, "reasons").items():
                self._reasons.add((reason,), 0, number)
        if amount > 0:
            self._count(row, column, row.client_id or row.actor_client_id, amount)

    def _count(self, row: AuditRow, column: int, client_id: str, amount: int) -> None:
        self._series.add(row.time, column, amount)
        self._clients.add((client_id,), column, amount)

    def content(self, read: TrailRead) -> Content:
        """See `Collector.content`."""
        totals = self._series.totals()
        peak_time, peak = self._series.peak(*range(_TOKENS))
        figures = [Figure(name, label, total) for (name, label), total in zip(_SERIES, totals, strict=True)]
        figures += [
            Figure("sessions", "Sessions with events", self._sessions.count()),
            Figure("peak", "Most tokens in an interval", peak),
            Figure("peak_time", "Interval with the most tokens", peak_time),
        ]
        tables = [
            self._series.table("Events"),
            Table(
                name="by_client",
                title="Events by client",
                columns=columns(("client_id", "Client"), *_SERIES),
                rows=self._clients.rows(),
                other=others(self._clients, 1),
                note="Events that name no client have an empty one.",
                chart=Chart.BARS,
            ),
        ]
        if classifications := self._classifications.rows():
            tables.append(
                Table(
                    name="by_classification",
                    title="Tokens by classification",
                    columns=columns(("classification", "Classification"), *_SERIES[:_TOKENS]),
                    rows=classifications,
                    other=others(self._classifications, 1),
                    note="The classification of the client. Older events name none.",
                    chart=Chart.BARS,
                )
            )
        if reasons := self._reasons.rows():
            tables.append(
                Table(
                    name="refused_by_validators",
                    title="Refused by validators, by reason",
                    columns=columns(("reason", "Reason"), ("refused", "Refused")),
                    rows=reasons,
                    other=others(self._reasons, 1),
                    chart=Chart.BARS,
                )
            )
        notes = [] if read.routine else [NO_ROUTINE]
        if not self._sessions.is_exact:
            notes.append(_ESTIMATED)
        return Content(figures, tables, notes)


def amount_of(action: str, fields: Mapping[str, Any]) -> int:
    """Return the number of calls, tokens or events that an event stands for."""
    if action == Action.REFUSALS_REPORTED:
        return number_in(fields, "total")
    if action == Action.SESSION_EXPIRED:
        return number_in(fields, "sessions") or 1
    if action == Action.AUDIT_EVENTS_LOST:
        return number_in(fields, "count")
    return 1 + number_in(fields, "unrecorded")


def others(counts: Counts, texts: int) -> tuple[str | int, ...] | None:
    """Return the row for the keys beyond the limit of counts with `texts` in a key; None: there are none."""
    return None if counts.other is None else (*[""] * texts, *counts.other)
