"""Alerts about the janitor, the event log, the outbox of logouts, event streams and webhooks."""

from __future__ import annotations

from typing import Final

from token_service.core.event_streams.pausing import PauseCause
from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert
from token_service.telemetry.monitoring.query import JOB, gauge, increase, quantile, span
from token_service.telemetry.monitoring.site import Site

_MINUTE, _HOUR = 60, 3600
_OUTCOME: Final = "token_service.outcome"
_CAUSE: Final = "token_service.cause"


def alerts(site: Site) -> list[Alert]:
    """Return the alerts about background work."""
    interval = site.janitor_interval
    age, leaders = gauge(registry.JANITOR_AGE, [JOB]), gauge(registry.JANITOR_LEADER, [JOB])
    took = quantile(0.99, registry.JANITOR_DURATION, span(_HOUR), [JOB])
    return [
        Alert(
            name="JanitorBehind",
            query=f"{age} > {3 * interval:g} or {leaders} == 0",
            hold=5 * _MINUTE,
            summary="No node purges the database",
            text=f"Seconds since the last purge, or leading processes: {{{{ $value | humanize }}}}. "
            f"A purge is due every {interval:g} s.",
        ),
        Alert(
            name="JanitorSlow",
            query=f"{took} > {interval:g}",
            hold=15 * _MINUTE,
            summary="Purges do not keep up",
            text=f"A purge takes {{{{ $value | humanizeDuration }}}}, and is due every {interval:g} s.",
            page="janitor-behind",
        ),
        Alert(
            name="EventsWaiting",
            query=f"{gauge(registry.EVENT_LOG_WAITING, [JOB])} > {_MINUTE}",
            hold=_MINUTE,
            summary="Events do not reach their readers",
            text="The oldest event has waited {{ $value | humanizeDuration }} for its place in the event log.",
        ),
        Alert(
            name="LogoutsPending",
            query=f"{gauge(registry.LOGOUTS_PENDING, [JOB])} > 100",
            hold=15 * _MINUTE,
            summary="Clients are not told of logouts",
            text="{{ $value }} logouts wait for their clients.",
        ),
        Alert(
            name="LogoutsGivenUp",
            query=f"{increase(registry.LOGOUTS, span(_HOUR), [JOB], {_OUTCOME: 'given_up'})} > 0",
            hold=0,
            summary="A client never learned of a logout",
            text="{{ $value | humanize }} logouts were given up in an hour.",
            page="logouts-pending",
        ),
        Alert(
            name="EventStreamBehind",
            query=f"{gauge(registry.SSF_WAITING_AGE, [JOB])} > {15 * _MINUTE}",
            hold=5 * _MINUTE,
            summary="A receiver does not take its security events",
            text="The oldest event waits for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            name="EventStreamPaused",
            query=" or ".join(
                f"{increase(registry.SSF_PAUSES, span(_HOUR), [JOB], {_CAUSE: each.value})} > 0"
                for each in PauseCause
            ),
            hold=0,
            summary="An event stream was paused, so its receiver gets no security events",
            text="{{ $value | humanize }} event streams were paused in an hour.",
            page="event-stream-behind",
        ),
        Alert(
            name="WebhooksFailing",
            query=f"{gauge(registry.WEBHOOKS_FAILING, [JOB])} > 0",
            hold=15 * _MINUTE,
            summary="Webhooks do not take events",
            text="The deliveries of {{ $value }} webhooks fail.",
        ),
        Alert(
            name="WebhookDeadLetters",
            query=f"{increase(registry.WEBHOOK_ATTEMPTS, span(_HOUR), [JOB], {_OUTCOME: 'dead_letter'})} > 0",
            hold=0,
            summary="A webhook misses events",
            text="{{ $value | humanize }} events became dead letters in an hour.",
            page="webhooks-failing",
        ),
    ]
