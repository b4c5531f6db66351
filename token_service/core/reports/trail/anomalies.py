"""The anomalies report: verdicts on risk, reuse and races of refresh tokens, refusals, and automatic revocations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action
from token_service.core.events.store import REVOKING
from token_service.core.reports.trail.collector import (
    Series,
    columns,
    fields_of,
    listing,
    number_in,
    personal,
    place,
    shortened,
    text_in,
)
from token_service.core.reports.trail.counting import Counts, Latest
from token_service.core.reports.trail.document import Chart, Content, Figure, Table
from token_service.core.reports.trail.period import Period, time_text
from token_service.core.reports.trail.reading import TrailRead
from token_service.core.reports.trail.usage import amount_of, others

SERIES: Final = (
    ("risk", "Risk verdicts"),
    ("reused", "Reuse of refresh tokens"),
    ("raced", "Races of refresh tokens"),
    ("authentication_failed", "Failed authentication"),
    ("permission_denied", "Missing permission"),
    ("quota_exceeded", "Exceeded quota"),
    ("revoked", "Automatic revocations"),
    ("received", "Received security events"),
    ("lost", "Lost audit events"),
)
_COLUMN: Final = {
    Action.RISK_DETECTED.value: 0,
    Action.REFRESH_TOKEN_REUSED.value: 1,
    Action.REFRESH_TOKEN_RACED.value: 2,
    Action.CLIENT_AUTHENTICATION_FAILED.value: 3,
    Action.PERMISSION_DENIED.value: 4,
    Action.QUOTA_EXCEEDED.value: 5,
    Action.SECURITY_EVENT_RECEIVED.value: 7,
    Action.AUDIT_EVENTS_LOST.value: 8,
}
ACTIONS: Final = tuple(_COLUMN)
"""The actions that are anomalies, all but revocations."""
_RISK: Final = 0
_REUSED: Final = 1
_RACED: Final = 2
_FAILED: Final = 3
_QUOTA: Final = 5
_REVOKED: Final = 6
_COUNT: Final = (("events", "Events"),)


class Anomalies:
    """Collects the anomalies report."""

    def __init__(self, period: Period) -> None:
        self._series = Series(period, SERIES)
        self._verdicts = Counts(2)
        self._signals = Counts(2)
        self._clients = Counts(2)
        self._failures = Counts(1)
        self._refusals = Counts(1)
        self._causes = Counts(1)
        self._latest_verdicts = Latest()
        self._latest_uses = Latest()
        self._latest_revocations = Latest()

    def take(self, row: AuditRow) -> None:
        """See `Collector.take`."""
        column = _COLUMN.get(row.action)
        if column is None:
            self._take_revocation(row)
            return
        fields = fields_of(row)
        amount = amount_of(row.action, fields)
        self._series.add(row.time, column, amount)
        if column == _RISK:
            self._take_verdict(row, fields)
        elif column in {_REUSED, _RACED}:
            self._take_use(row, fields, column)
        elif column == _FAILED:
            self._failures.add((row.client_id, text_in(fields, "problem")), 0, amount)
        elif column <= _QUOTA:
            caller = f"{row.actor_kind}:{row.actor_name}"
            self._refusals.add((row.action, caller, row.target_id, row.reason), 0, amount)

    def _take_revocation(self, row: AuditRow) -> None:
        """Take a revocation that the service made by itself. Other events do not count."""
        if row.action not in REVOKING or '"cause"' not in row.fields:
            return
        fields = fields_of(row)
        cause = text_in(fields, "cause")
        if not cause:
            return
        self._series.add(row.time, _REVOKED)
        self._causes.add((cause,))
        self._latest_revocations.add(
            place(row),
            (
                time_text(row.time),
                cause,
                text_in(fields, "rule"),
                row.target_kind,
                personal(row, row.target) if row.target_kind == "subject" else row.target or row.session_id,
                row.reason,
                shortened(personal(row, row.comment)),
            ),
        )

    def _take_verdict(self, row: AuditRow, fields: Mapping[str, Any]) -> None:
        is_dry_run = fields.get("dry_run") is True
        action = text_in(fields, "action")
        self._verdicts.add((action,), int(is_dry_run))
        shown = list(evidence_of(fields))
        for signal, weight, _ in shown:
            self._signals.add((signal,), 0)
            self._signals.add((signal,), 1, weight)
        self._latest_verdicts.add(
            place(row),
            (
                time_text(row.time),
                personal(row, row.subject),
                row.session_id,
                row.client_id,
                text_in(fields, "country"),
                number_in(fields, "score"),
                action,
                "yes" if is_dry_run else "no",
                shortened("; ".join(evidence_text(*each) for each in shown)),
            ),
        )

    def _take_use(self, row: AuditRow, fields: Mapping[str, Any], column: int) -> None:
        self._clients.add((row.client_id,), column - _REUSED)
        self._latest_uses.add(
            place(row),
            (
                time_text(row.time),
                row.action,
                personal(row, row.subject),
                row.session_id,
                row.client_id,
                personal(row, row.ip_address),
                text_in(fields, "response"),
            ),
        )

    def content(self, read: TrailRead) -> Content:
        """See `Collector.content`."""
        totals = self._series.totals()
        events = columns(*_COUNT)
        tables = [
            self._series.table("Anomalies"),
            Table(
                name="verdicts",
                title="Risk verdicts by action",
                columns=columns(("action", "Action"), ("verdicts", "Verdicts"), ("dry_run", "In a dry run")),
                rows=self._verdicts.rows(),
                chart=Chart.BARS,
            ),
            Table(
                name="signals",
                title="Signals of the verdicts",
                columns=columns(("signal", "Signal"), ("verdicts", "Verdicts"), ("weight", "Sum of weights")),
                rows=self._signals.rows(),
                other=others(self._signals, 1),
            ),
            Table(
                name="reuse_by_client",
                title="Reuse and races by client",
                columns=columns(("client_id", "Client"), ("reused", "Reuse"), ("raced", "Races")),
                rows=self._clients.rows(),
                other=others(self._clients, 1),
                chart=Chart.BARS,
            ),
            Table(
                name="authentication_failures",
                title="Failed authentication of clients",
                columns=[*columns(("client_id", "Client"), ("problem", "Problem")), *events],
                rows=self._failures.rows(),
                other=others(self._failures, 2),
            ),
            Table(
                name="refusals",
                title="Refused calls",
                columns=[
                    *columns(
                        ("action", "Action"), ("caller", "Caller"), ("call", "Call"), ("reason", "Reason")
                    ),
                    *events,
                ],
                rows=self._refusals.rows(),
                other=others(self._refusals, 4),
            ),
            Table(
                name="revocations_by_cause",
                title="Automatic revocations by cause",
                columns=[*columns(("cause", "Cause")), *events],
                rows=self._causes.rows(),
                chart=Chart.BARS,
            ),
        ]
        return Content(
            [Figure(name, label, total) for (name, label), total in zip(SERIES, totals, strict=True)],
            [*tables, *self._listings()],
        )

    def _listings(self) -> Iterator[Table]:
        time, client = ("time", "Time (UTC)"), ("client_id", "Client")
        subject, session = ("subject", "Subject"), ("session_id", "Session")
        yield listing(
            "latest_verdicts",
            "Risk verdicts with their evidence",
            columns(
                *(time, subject, session, client, ("country", "Country"), ("score", "Score")),
                *(("action", "Action"), ("dry_run", "Dry run"), ("evidence", "Evidence")),
            ),
            self._latest_verdicts,
        )
        yield listing(
            "latest_reuse",
            "Reuse and races of refresh tokens",
            columns(
                *(time, ("event", "Event"), subject, session, client),
                *(("address", "Address"), ("response", "Response")),
            ),
            self._latest_uses,
        )
        yield listing(
            "latest_revocations",
            "Automatic revocations",
            columns(
                *(
                    time,
                    ("cause", "Cause"),
                    ("rule", "Rule"),
                    ("target_kind", "Kind of target"),
                    ("target", "Target"),
                ),
                *(("reason", "Reason"), ("comment", "Comment")),
            ),
            self._latest_revocations,
        )


def evidence_of(fields: Mapping[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Return the evidence of a verdict: signals, their weights and details."""
    evidence = fields.get("evidence")
    for each in evidence if isinstance(evidence, list) else ():
        if isinstance(each, dict) and text_in(each, "signal"):
            weight = each.get("weight")
            number = round(weight) if isinstance(weight, (int, float)) else 0
            yield text_in(each, "signal"), number, text_in(each, "detail")


def evidence_text(signal: str, weight: int, detail: str) -> str:
    """Return a piece of evidence as text."""
    return f"{signal} ({weight}): {detail}" if detail else f"{signal} ({weight})"
