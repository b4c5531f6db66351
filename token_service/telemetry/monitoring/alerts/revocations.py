"""Alerts about revocations, replicas and subscribers."""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert, Severity
from token_service.telemetry.monitoring.query import JOB, each, gauge, increase, quantile, span
from token_service.telemetry.monitoring.site import Site
from token_service.tokens.revocation import RevocationTarget

_MINUTE: Final = 60
_FEW: Final = 10
"""Subscribers whose loss is no sudden drop."""


def alerts(site: Site) -> list[Alert]:
    """Return the alerts about revocations."""
    bound = site.freshness_bound
    stale = gauge(registry.SUBSCRIBER_STALENESS, [JOB], {"token_service.statistic": "max"})
    of_all = {"token_service.target": RevocationTarget.EVERYTHING.name.lower()}
    everything = gauge(registry.REVOCATIONS, [JOB], of_all)
    everything_before = gauge(registry.REVOCATIONS, [JOB], of_all, before=span(10 * _MINUTE))
    subscribers, subscribers_before = (
        gauge(registry.SUBSCRIBERS, [JOB], before=time) for time in ("", span(10 * _MINUTE))
    )
    heads = gauge(registry.LOG_HEAD, [JOB], before=span(_MINUTE))
    return [
        Alert(
            name="ReplicaBehind",
            query=f"{each(registry.REPLICA_STALENESS)} > {site.replica_max_age / 2:g}",
            hold=_MINUTE,
            severity=Severity.CRITICAL,
            summary="A node can't read the revocation log",
            text="{{ $labels.instance }} has not known the head of the log for {{ $value | humanizeDuration }}. "
            f"At {site.replica_max_age:g} s it stops answering from its copy.",
        ),
        Alert(
            name="ReplicasApart",
            query=f"{each(registry.LOG_HEAD)} < on({JOB}) group_left() {heads}",
            hold=2 * _MINUTE,
            summary="A node does not apply entries that another one has",
            text="{{ $labels.instance }} is at entry {{ $value }}; another node was further a minute ago.",
        ),
        Alert(
            name="SubscribersStale",
            query=f"{stale} > {bound:g}",
            hold=_MINUTE,
            summary="A subscriber is behind",
            text="A subscriber has not confirmed a revocation for {{ $value | humanizeDuration }}. "
            f"The bound is {bound:g} s.",
        ),
        Alert(
            name="SubscribersSilent",
            query=f"{gauge(registry.SUBSCRIBERS_SILENT, [JOB])} > 0",
            hold=5 * _MINUTE,
            summary="Subscribers do not confirm",
            text="Waits ignore {{ $value }} connected subscribers.",
        ),
        Alert(
            name="SubscribersDropped",
            query=f"{subscribers} < 0.5 * ({subscribers_before} >= {_FEW})",
            hold=2 * _MINUTE,
            summary="Half of the subscribers left",
            text="{{ $value }} subscribers are connected, less than half of the number 10 minutes ago.",
        ),
        Alert(
            name="PropagationSlow",
            query=f"{quantile(0.99, registry.PROPAGATION, span(10 * _MINUTE), [JOB])} > 1",
            hold=5 * _MINUTE,
            summary="Revocations reach the subscribers slowly",
            text="The slowest of 100 waits took {{ $value | humanizeDuration }} until all subscribers had confirmed.",
        ),
        Alert(
            name="PropagationTimeouts",
            query=(
                f"{increase(registry.PROPAGATION, span(10 * _MINUTE), [JOB], {'token_service.outcome': 'timeout'})} > 0"
            ),
            hold=0,
            summary="Waits for subscribers ended without all confirmations",
            text="{{ $value | humanize }} waits timed out in 10 minutes. Their revocations are in force.",
        ),
        Alert(
            name="EverythingRevoked",
            query=f"{everything} > {everything_before}",
            hold=0,
            summary="All tokens were revoked",
            text="{{ $value }} revocations of everything are live, more than 10 minutes ago.",
        ),
    ]
