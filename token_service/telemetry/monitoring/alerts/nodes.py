"""Alerts about nodes, their workers and what they are connected to."""

from __future__ import annotations

from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert, Severity
from token_service.telemetry.monitoring.query import (
    INSTANCE,
    JOB,
    TARGET,
    UP,
    VERSION,
    aggregate,
    each,
    increase,
    span,
)

_MINUTE, _HOUR = 60, 3600


def alerts() -> list[Alert]:
    """Return the alerts about nodes."""
    return [
        Alert(
            name="Down",
            query=(
                f"{aggregate('sum', UP, [JOB])} == 0 or absent({UP})"
                f" or {aggregate('max', each(registry.READY), [JOB])} == 0"
            ),
            hold=_MINUTE,
            severity=Severity.CRITICAL,
            summary="No node may be sent calls",
            text="Of the nodes of {{ $labels.job }}, {{ $value }} are ready, or none is scraped.",
            page="service-down",
        ),
        Alert(
            name="NodeDown",
            query=f"{UP} == 0",
            hold=2 * _MINUTE,
            summary="A node does not answer",
            text="{{ $labels.instance }} has not answered the last scrapes (up is {{ $value }}).",
        ),
        Alert(
            name="NodeNotReady",
            query=f"{each(registry.READY)} == 0",
            hold=2 * _MINUTE,
            summary="A node is not ready",
            text="{{ $labels.instance }} runs and may not be sent calls (ready is {{ $value }}).",
        ),
        Alert(
            name="WorkerRestarts",
            query=f"{increase(registry.WORKER_STARTS, span(15 * _MINUTE), [JOB, INSTANCE])} > 2",
            hold=0,
            summary="Workers end and start again",
            text="{{ $labels.instance }} started {{ $value | humanize }} workers in 15 minutes.",
        ),
        Alert(
            name="VersionsMixed",
            query=f"{aggregate('count', aggregate('count', TARGET, [JOB, VERSION]), [JOB])} > 1",
            hold=2 * _HOUR,
            summary="Nodes of different versions run side by side",
            text="{{ $value }} versions have run for two hours. A deployment did not end.",
        ),
        Alert(
            name="RedisLost",
            query=f"{each(registry.REDIS_IN_USE)} == 0",
            hold=2 * _MINUTE,
            summary="A node can't use Redis",
            text="{{ $labels.instance }} does without Redis for {{ $labels.token_service_redis_use }} (in use: {{ $value }}).",
        ),
        Alert(
            name="PolicyFileFailing",
            query=f"{each(registry.POLICY_FILE_FAILING)} > 0",
            hold=5 * _MINUTE,
            summary="A policy file can't be used",
            text="{{ $labels.instance }} keeps earlier policies (failing is {{ $value }}).",
        ),
        Alert(
            name="InternalErrors",
            query=f"{increase(registry.REFUSALS, span(10 * _MINUTE), [JOB], {'token_service.reason': 'INTERNAL'})} > 0",
            hold=0,
            summary="Calls ended with an unexpected error",
            text="{{ $value | humanize }} calls ended with INTERNAL in 10 minutes.",
        ),
    ]
