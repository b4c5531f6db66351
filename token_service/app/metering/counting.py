"""Counters and histograms of a node: which event counts in which metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from token_service.app.core import Core
from token_service.core.event_streams.outcome import Outcome as EventOutcome
from token_service.core.event_streams.pausing import PauseCause
from token_service.core.events.event import Action, AuditEvent
from token_service.core.events.webhooks.sending import Outcome as WebhookOutcome
from token_service.core.logout.delivering import Outcome
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.subscribers.lag import SubscriberLag
from token_service.stores.sql.stores import SqlStores
from token_service.telemetry import Histogram, Metrics, registry
from token_service.telemetry.fields import in_json
from token_service.telemetry.metric import Metric
from token_service.telemetry.top import TopNames

_ISSUED: Final = {
    Action.TOKEN_ISSUED.value: "issued",
    Action.TOKEN_REFRESHED.value: "refreshed",
    Action.TOKEN_EXCHANGED.value: "exchanged",
}
"""By the text of the action: the hash of an enumeration is computed in Python."""
_GRANTS: Final = {"refreshed": "refresh_token", "exchanged": "token_exchange"}
_GRANT_PREFIX: Final = "urn:ietf:params:oauth:grant-type:"
_POOL: Final = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortCounts:
    """What the ports of a core count with; None: nothing."""

    rate_limited: Callable[[Operation, Bucket], None] | None = None
    rate_admitted: Callable[[Operation, Bucket], None] | None = None
    logout_counted: Callable[[Outcome], None] | None = None
    events_counted: Callable[[EventOutcome, int], None] | None = None
    event_stream_paused: Callable[[PauseCause], None] | None = None
    webhook_counted: Callable[[WebhookOutcome], None] | None = None
    signatures: Histogram | None = None


def port_counts(metrics: Metrics) -> PortCounts:
    """Return the counters of the ports."""
    logouts = metrics.counter(registry.LOGOUTS)
    events, pauses = metrics.counter(registry.SSF_EVENTS), metrics.counter(registry.SSF_PAUSES)
    webhooks = metrics.counter(registry.WEBHOOK_ATTEMPTS)
    return PortCounts(
        rate_limited=_rate_counter(metrics, registry.RATE_LIMITED),
        rate_admitted=_rate_counter(metrics, registry.RATE_ADMITTED),
        logout_counted=None if logouts is None else lambda outcome: logouts.add(1, outcome.value),
        events_counted=None if events is None else lambda outcome, count: events.add(count, outcome.value),
        event_stream_paused=None if pauses is None else lambda cause: pauses.add(1, cause.value),
        webhook_counted=None if webhooks is None else lambda outcome: webhooks.add(1, outcome.value),
        signatures=metrics.histogram(registry.SIGNATURE_DURATION),
    )


def _rate_counter(metrics: Metrics, metric: Metric) -> Callable[[Operation, Bucket], None] | None:
    counter = metrics.counter(metric)
    if counter is None:
        return None
    return lambda operation, bucket: counter.add(1, operation.value, bucket.value)


def event_counter(metrics: Metrics, top_clients: int) -> Callable[[AuditEvent], None] | None:
    """Return a function that counts audit events; None if metrics are off.

    `top_clients`: how many clients have a label of their own.
    """
    events = metrics.counter(registry.EVENTS)
    tokens = metrics.counter(registry.TOKENS)
    revoked = metrics.counter(registry.REVOKED)
    if events is None or tokens is None or revoked is None:
        return None
    clients = TopNames(top_clients, registry.OTHER, metrics.known(registry.TOKENS, registry.CLIENT))

    shown = _Shown()

    def count(event: AuditEvent) -> None:
        action = event.action.value
        events.add(1, action)
        kind = _ISSUED.get(action)
        if kind is not None:
            client = shown[clients.label(event.target.client_id)]
            fields = event.fields
            grant = _grant(kind, fields)
            for token_type in _types(fields.get("token_types"), fields.get("token_type")):
                tokens.add(1, kind, token_type, grant, client)
        elif event.action is Action.REVOKED:
            revoked.add(1, event.target.kind, event.reason)

    return count


class _Shown(dict[str, str]):
    """Names as the log shows them: a token in the place of a client is its SHA-256. `TopNames` bounds their number."""

    def __missing__(self, name: str) -> str:
        self[name] = shown = str(in_json(name))
        return shown


@cache  # the combinations of the types of tokens
def _types(several: tuple[str, ...] | None, one: str | None) -> tuple[str, ...]:
    """Return the types of the issued tokens. A refresh names none: it is an access token."""
    return tuple(each.lower() for each in several or (one or "access",))


def _grant(kind: str, fields: Mapping[str, object]) -> str:
    grant = fields.get("grant_type")
    if grant is None:
        return _GRANTS.get(kind, "direct")
    return str(grant).removeprefix(_GRANT_PREFIX)


def count_core(metrics: Metrics, core: Core, stores: SqlStores) -> SubscriberLag:
    """Count what a core and its stores tell their listeners. Returns the lag of the subscribers, which gauges need.

    The core need not be started.
    """
    _count_validations(metrics, core)
    lag = SubscriberLag(core.subscribers, lambda: core.replica.applied, core.ports.clock)
    if (steps := metrics.counter(registry.KEY_STEPS)) is not None:
        core.key_rotation.on_step(lambda outcome: steps.add(1, outcome))
    if (waits := metrics.histogram(registry.PROPAGATION)) is not None:
        core.waits.on_end(
            lambda seconds, confirmed: waits.record(seconds, "confirmed" if confirmed else "timeout")
        )
    if (received := metrics.counter(registry.SECURITY_EVENTS)) is not None:
        core.security_events.on_event(lambda name, result: received.add(1, name, result.value))
    if (polls := metrics.counter(registry.SECURITY_EVENT_POLLS)) is not None:
        core.security_event_poller.on_poll(
            lambda name, succeeded: polls.add(1, name, "succeeded" if succeeded else "failed")
        )
    if (confirmed := metrics.histogram(registry.SUBSCRIBER_LAG)) is not None:
        lag.on_confirmed(confirmed.record)
        core.replica.listen(lag)
    if (wait := metrics.histogram(registry.CONNECTION_WAIT)) is not None:
        stores.pool.on_wait(lambda seconds: wait.record(seconds, _POOL))
    if (automatic := metrics.counter(registry.AUTOMATIC_REVOCATIONS)) is not None:
        for source in (core.limit_enforcer, core.threshold_handler):
            source.on_revoked(lambda cause, count: automatic.add(count, cause.value))
    durations, rows = metrics.histogram(registry.JANITOR_DURATION), metrics.counter(registry.JANITOR_ROWS)
    if durations is not None and rows is not None:

        def swept(seconds: float, purged: int) -> None:
            durations.record(seconds)
            rows.add(purged)

        core.janitor.on_sweep(swept)
    return lag


def _count_validations(metrics: Metrics, core: Core) -> None:
    validated = metrics.counter(registry.VALIDATED)
    refused = metrics.counter(registry.VALIDATOR_REFUSALS)
    if validated is None or refused is None:
        return

    def count(verified: int, refusals: Mapping[str, int]) -> None:
        validated.add(verified)
        for reason, number in refusals.items():
            refused.add(number, reason)

    core.validations.on_report(count)
