"""Propagation: how fast do revocations reach the subscribers?"""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, Target, Unit, View
from token_service.telemetry.monitoring.query import INSTANCE, buckets, each, gauge, quantile, rate

_OUTCOME: Final = "token_service.outcome"
_SUBSCRIBERS: Final = Row(
    "Subscribers",
    [
        Panel(
            title="Subscribers",
            text=f"{registry.SUBSCRIBERS.text} A validator that reconnects moves to another node.",
            targets=[Target(gauge(registry.SUBSCRIBERS, [INSTANCE]), "{{instance}}")],
            is_stacked=True,
        ),
        Panel(
            title="Streams",
            text=registry.STREAMS.text,
            targets=[Target(gauge(registry.STREAMS, [INSTANCE]), "{{instance}}")],
            is_stacked=True,
        ),
        Panel(
            title="Behind or silent",
            text=f"Behind: {registry.SUBSCRIBERS_BEHIND.text} Silent: {registry.SUBSCRIBERS_SILENT.text}",
            targets=[
                Target(gauge(registry.SUBSCRIBERS_BEHIND), "behind"),
                Target(gauge(registry.SUBSCRIBERS_SILENT), "silent"),
            ],
            warning=1,
        ),
        Panel(
            title="Staleness of subscribers",
            text=registry.SUBSCRIBER_STALENESS.text,
            targets=[
                Target(
                    gauge(registry.SUBSCRIBER_STALENESS, ["token_service.statistic"]),
                    "{{token_service_statistic}}",
                )
            ],
            unit=Unit.SECONDS,
            warning=5,
            critical=10,
        ),
        Panel(
            title="Tokens that validators verified",
            text=registry.VALIDATED.text,
            targets=[Target(rate(registry.VALIDATED), "verified")],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Tokens that validators refused, by reason",
            text=registry.VALIDATOR_REFUSALS.text,
            targets=[
                Target(
                    f"{rate(registry.VALIDATOR_REFUSALS, by=['token_service.reason'])} or on() vector(0)",
                    "{{token_service_reason}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
    ],
)
_SPEED: Final = Row(
    "Speed",
    [
        Panel(
            title="Revocation to confirmation by all",
            text=registry.PROPAGATION.text,
            targets=[
                Target(quantile(share, registry.PROPAGATION), name)
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ],
            unit=Unit.SECONDS,
            warning=1,
        ),
        Panel(
            title="Waits by outcome",
            text="Calls that waited for all subscribers. A timeout leaves the revocation in force.",
            targets=[
                Target(rate(registry.PROPAGATION, by=[_OUTCOME]), "{{token_service_outcome}}"),
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Revocation to confirmation by all, distribution",
            text=registry.PROPAGATION.text,
            targets=[Target(buckets(registry.PROPAGATION), "{{le}}")],
            view=View.HEAT,
        ),
        Panel(
            title="Arrival at a node to confirmation there",
            text=registry.SUBSCRIBER_LAG.text,
            targets=[
                Target(quantile(share, registry.SUBSCRIBER_LAG), name)
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ],
            unit=Unit.SECONDS,
            warning=5,
        ),
        Panel(
            title="Arrival to confirmation, p99 by node",
            text=registry.SUBSCRIBER_LAG.text,
            targets=[Target(quantile(0.99, registry.SUBSCRIBER_LAG, by=[INSTANCE]), "{{instance}}")],
            unit=Unit.SECONDS,
        ),
        Panel(
            title="Arrival to confirmation, distribution",
            text=registry.SUBSCRIBER_LAG.text,
            targets=[Target(buckets(registry.SUBSCRIBER_LAG), "{{le}}")],
            view=View.HEAT,
        ),
    ],
)
_LOG: Final = Row(
    "Revocation log",
    [
        Panel(
            title="Staleness of the replicas",
            text=registry.REPLICA_STALENESS.text,
            targets=[Target(each(registry.REPLICA_STALENESS), "{{instance}}")],
            unit=Unit.SECONDS,
            warning=5,
            critical=10,
        ),
        Panel(
            title="Head of the log by node",
            text=f"{registry.LOG_HEAD.text} Lines that stay apart: a node does not follow.",
            targets=[Target(each(registry.LOG_HEAD), "{{instance}}")],
        ),
        Panel(
            title="Live revocations by target",
            text=registry.REVOCATIONS.text,
            targets=[
                Target(gauge(registry.REVOCATIONS, ["token_service.target"]), "{{token_service_target}}")
            ],
            is_stacked=True,
        ),
        Panel(
            title="New revocations by target and reason",
            text=registry.REVOKED.text,
            targets=[
                Target(
                    rate(registry.REVOKED, by=["token_service.target", "token_service.reason"]),
                    "{{token_service_target}} {{token_service_reason}}",
                )
            ],
            unit=Unit.PER_SECOND,
            width=12,
        ),
        Panel(
            title="Automatic revocations by cause",
            text=registry.AUTOMATIC_REVOCATIONS.text,
            targets=[
                Target(
                    rate(registry.AUTOMATIC_REVOCATIONS, by=["token_service.cause"]),
                    "{{token_service_cause}}",
                )
            ],
            unit=Unit.PER_SECOND,
            width=12,
        ),
    ],
)
PROPAGATION: Final = Dashboard(
    name="propagation",
    title="Token service: propagation",
    text="Subscribers, the speed of revocations, and the revocation log.",
    rows=(_SUBSCRIBERS, _SPEED, _LOG),
)
