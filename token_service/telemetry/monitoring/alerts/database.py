"""Alerts about the database and the audit trail."""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert, Severity
from token_service.telemetry.monitoring.query import INSTANCE, JOB, each, gauge, increase, quantile, span
from token_service.telemetry.monitoring.site import Site

_MINUTE: Final = 60


def alerts(site: Site) -> list[Alert]:
    """Return the alerts about the database."""
    wait = quantile(0.99, registry.CONNECTION_WAIT, span(5 * _MINUTE), [JOB, INSTANCE])
    return [
        Alert(
            name="PoolExhausted",
            query=f"{gauge(registry.CONNECTION_REQUESTS, [JOB, INSTANCE])} > 0",
            hold=2 * _MINUTE,
            summary="Transactions wait for a connection to the database",
            text="{{ $value }} transactions of {{ $labels.instance }} wait for a connection.",
        ),
        Alert(
            name="ConnectionsSlow",
            query=f"{wait} > 0.1",
            hold=10 * _MINUTE,
            summary="Connections to the database are scarce",
            text="The slowest of 100 transactions of {{ $labels.instance }} waited {{ $value | humanizeDuration }} for a connection.",
            page="pool-exhausted",
        ),
        Alert(
            name="QueueLong",
            query=f"{gauge(registry.LANE_QUEUED, [JOB, INSTANCE])} > {site.queue_limit / 2:g}",
            hold=_MINUTE,
            severity=Severity.CRITICAL,
            summary="Many statements wait for the database",
            text="{{ $value }} statements of {{ $labels.instance }} wait. "
            f"A process refuses calls at {site.queue_limit}.",
        ),
        Alert(
            name="LockWaits",
            query=f"{gauge(registry.LOCK_WAITS, [JOB])} > 0",
            hold=2 * _MINUTE,
            summary="The service waits for locks of the database",
            text="{{ $value }} connections have waited for a lock for minutes.",
        ),
        Alert(
            name="AuditTrailFailing",
            query=f"{each(registry.AUDIT_FAILING)} > 0",
            hold=_MINUTE,
            severity=Severity.CRITICAL,
            summary="The audit trail can't be written",
            text="{{ $labels.instance }} can't write audit events (failing is {{ $value }}).",
        ),
        Alert(
            name="AuditQueueGrowing",
            query=f"{gauge(registry.AUDIT_QUEUED, [JOB, INSTANCE])} > 1000",
            hold=5 * _MINUTE,
            summary="Audit events wait to be written",
            text="{{ $value }} audit events of {{ $labels.instance }} wait. A process loses events beyond 10,000.",
            page="audit-trail-failing",
        ),
        Alert(
            name="AuditEventsLost",
            query=f"{increase(registry.AUDIT_LOST, span(10 * _MINUTE), [JOB, INSTANCE])} > 0",
            hold=0,
            severity=Severity.CRITICAL,
            summary="Audit events were lost",
            text="{{ $labels.instance }} lost {{ $value | humanize }} audit events in 10 minutes.",
        ),
    ]
