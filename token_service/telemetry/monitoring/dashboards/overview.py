"""The overview: is the service well, and what is it doing?"""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring import requests
from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, Target, Unit, View
from token_service.telemetry.monitoring.query import (
    INSTANCE,
    RATE,
    TARGET,
    UP,
    VERSION,
    aggregate,
    each,
    gauge,
    increase,
    or_zero,
    quantile,
    rate,
)

_OF_TRANSMITTERS: Final = ["token_service.transmitter", "token_service.outcome"]
_STATE: Final = Row(
    "State",
    [
        Panel(
            title="Nodes that answer",
            text="Nodes that answered the last scrape.",
            targets=[Target(aggregate("sum", UP))],
            view=View.NUMBER,
            width=4,
        ),
        Panel(
            title="All ready",
            text="Whether every process may be sent calls. `/readyz` of a node names its problems.",
            targets=[Target(gauge(registry.READY))],
            unit=Unit.YES_NO,
            view=View.NUMBER,
            width=4,
            warning=1,
            critical=0.5,
        ),
        Panel(
            title="Worker processes",
            text="Worker processes of all nodes.",
            targets=[Target(gauge(registry.WORKERS))],
            view=View.NUMBER,
            width=4,
        ),
        Panel(
            title="Failed requests",
            text="Share of gRPC calls that failed by a fault of the service, in the last minutes.",
            targets=[
                Target(
                    f"({or_zero(rate(requests.CALLS, where=requests.FAILED_CALLS))})"
                    f" / ({rate(requests.CALLS)} > 0) or on() vector(0)"
                )
            ],
            unit=Unit.SHARE,
            view=View.NUMBER,
            width=4,
            warning=0.001,
            critical=0.01,
        ),
        Panel(
            title="Most stale subscriber",
            text="Age of the oldest revocation that a subscriber has not confirmed.",
            targets=[Target(gauge(registry.SUBSCRIBER_STALENESS, where={"token_service.statistic": "max"}))],
            unit=Unit.SECONDS,
            view=View.NUMBER,
            width=4,
            warning=5,
            critical=10,
        ),
        Panel(
            title="Next key rotation",
            text="Time until the signing key is replaced; negative: overdue.",
            targets=[Target(gauge(registry.KEY_NEXT_ROTATION))],
            unit=Unit.SECONDS,
            view=View.NUMBER,
            width=4,
            warning=0,
            critical=-3600,
        ),
    ],
)
_CALLS: Final = Row(
    "gRPC calls",
    [
        Panel(
            title="Calls by method",
            text=registry.CALL_DURATION.text,
            targets=[Target(rate(requests.CALLS, by=[requests.METHOD]), "{{rpc_method}}")],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Calls that did not succeed, by status",
            text="INVALID_ARGUMENT and the like are the caller's fault; INTERNAL and UNAVAILABLE are the service's.",
            targets=[
                Target(
                    or_zero(rate(requests.CALLS, by=[requests.STATUS], where={requests.STATUS: "!=OK"})),
                    "{{rpc_response_status_code}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Duration of calls, p99 by method",
            text="The time at the server. Calls that wait for subscribers are long on purpose.",
            targets=[Target(quantile(0.99, requests.CALLS, by=[requests.METHOD]), "{{rpc_method}}")],
            unit=Unit.SECONDS,
        ),
    ],
)
_HTTP: Final = Row(
    "HTTP requests",
    [
        Panel(
            title="Requests by route",
            text=registry.REQUEST_DURATION.text,
            targets=[Target(rate(requests.REQUESTS, by=[requests.ROUTE]), "{{http_route}}")],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Requests by status",
            text="Probes count as well: a node that is not ready answers 503 to them.",
            targets=[
                Target(rate(requests.REQUESTS, by=[requests.HTTP_STATUS]), "{{http_response_status_code}}")
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Duration of requests, p99 by route",
            text="The time at the server.",
            targets=[
                Target(
                    quantile(0.99, requests.REQUESTS, by=[requests.ROUTE], where=requests.COUNTED_REQUESTS),
                    "{{http_route}}",
                )
            ],
            unit=Unit.SECONDS,
        ),
    ],
)
_TOKENS: Final = Row(
    "Tokens",
    [
        Panel(
            title="Tokens by grant",
            text=registry.TOKENS.text,
            targets=[
                Target(
                    rate(registry.TOKENS, by=["token_service.event", "token_service.grant"]),
                    "{{token_service_event}} {{token_service_grant}}",
                )
            ],
            unit=Unit.PER_SECOND,
            is_stacked=True,
        ),
        Panel(
            title="Tokens by client",
            text="The ten clients that get the most tokens. Smaller clients count as `other`.",
            targets=[
                Target(
                    f"topk(10, {rate(registry.TOKENS, by=[registry.CLIENT])})", "{{token_service_client_id}}"
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Validations by verdict",
            text=f"{registry.VALIDATIONS.text} Validators judge most tokens by themselves.",
            targets=[
                Target(rate(registry.VALIDATIONS, by=["token_service.verdict"]), "{{token_service_verdict}}")
            ],
            unit=Unit.PER_SECOND,
        ),
    ],
)
_REFUSALS: Final = Row(
    "Refusals",
    [
        Panel(
            title="Refused calls by reason",
            text=registry.REFUSALS.text,
            targets=[
                Target(
                    rate(registry.REFUSALS, by=["token_service.reason", "token_service.edge"]),
                    "{{token_service_reason}} {{token_service_edge}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Rates of the policy",
            text="Calls that a rate admitted and refused.",
            targets=[
                Target(
                    or_zero(
                        rate(registry.RATE_LIMITED, by=["token_service.operation", "token_service.bucket"])
                    ),
                    "refused: {{token_service_operation}} by {{token_service_bucket}}",
                ),
                Target(
                    or_zero(
                        rate(registry.RATE_ADMITTED, by=["token_service.operation", "token_service.bucket"])
                    ),
                    "admitted: {{token_service_operation}} by {{token_service_bucket}}",
                ),
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Events of the audit trail",
            text=f"{registry.EVENTS.text} Reuse of a refresh token, denials and changes by administrators show here.",
            targets=[Target(rate(registry.EVENTS, by=["token_service.event"]), "{{token_service_event}}")],
            unit=Unit.PER_SECOND,
        ),
    ],
)
_PROCESSES: Final = Row(
    "Processes and background work",
    [
        Panel(
            title="Versions",
            text="Nodes of each version. Two versions are normal during a deployment only.",
            targets=[Target(aggregate("count", TARGET, [VERSION]), "{{service_version}}")],
            is_stacked=True,
        ),
        Panel(
            title="Starts of workers",
            text=f"{registry.WORKER_STARTS.text} In the interval between two points of the graph.",
            targets=[Target(increase(registry.WORKER_STARTS, RATE, by=[INSTANCE]), "{{instance}}")],
        ),
        Panel(
            title="Not as it should be",
            text="1: a policy file that can't be used, audit events that can't be written, a Redis that does not answer.",
            targets=[
                Target(gauge(registry.POLICY_FILE_FAILING), "policy file"),
                Target(gauge(registry.AUDIT_FAILING), "audit trail"),
                Target(f"1 - ({gauge(registry.REDIS_IN_USE)})", "Redis"),
            ],
            most=1,
            warning=1,
        ),
        Panel(
            title="Redis by node",
            text=registry.REDIS_IN_USE.text,
            targets=[
                Target(
                    each(registry.REDIS_IN_USE), "{{instance}} {{token_service_redis_use}} {{server_address}}"
                )
            ],
            most=1,
        ),
        Panel(
            title="Logouts",
            text=registry.LOGOUTS.text,
            targets=[
                Target(rate(registry.LOGOUTS, by=["token_service.outcome"]), "{{token_service_outcome}}")
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Pending logouts",
            text=registry.LOGOUTS_PENDING.text,
            targets=[Target(gauge(registry.LOGOUTS_PENDING), "pending")],
            warning=100,
        ),
        Panel(
            title="Security events",
            text=registry.SECURITY_EVENTS.text,
            width=12,
            targets=[
                Target(
                    rate(registry.SECURITY_EVENTS, by=_OF_TRANSMITTERS),
                    "{{token_service_transmitter}} {{token_service_outcome}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Polls for security events",
            text=registry.SECURITY_EVENT_POLLS.text,
            width=12,
            targets=[
                Target(
                    rate(registry.SECURITY_EVENT_POLLS, by=_OF_TRANSMITTERS),
                    "{{token_service_transmitter}} {{token_service_outcome}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Waiting events",
            text=registry.EVENT_LOG_WAITING.text,
            width=12,
            targets=[Target(gauge(registry.EVENT_LOG_WAITING), "age")],
            unit=Unit.SECONDS,
            warning=60,
        ),
        Panel(
            title="Readers of events",
            text=registry.EVENT_READERS.text,
            width=12,
            targets=[Target(gauge(registry.EVENT_READERS), "streams")],
        ),
        Panel(
            title="Events of event streams",
            text=registry.SSF_EVENTS.text,
            targets=[
                Target(rate(registry.SSF_EVENTS, by=["token_service.outcome"]), "{{token_service_outcome}}"),
                Target(
                    rate(registry.SSF_PAUSES, by=["token_service.cause"]), "paused: {{token_service_cause}}"
                ),
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Events that wait for receivers",
            text=registry.SSF_WAITING.text,
            targets=[Target(gauge(registry.SSF_WAITING), "waiting")],
        ),
        Panel(
            title="Age of the oldest event that waits",
            text=registry.SSF_WAITING_AGE.text,
            targets=[Target(gauge(registry.SSF_WAITING_AGE), "age")],
            unit=Unit.SECONDS,
            warning=900,
        ),
        Panel(
            title="Webhooks",
            text=registry.WEBHOOK_ATTEMPTS.text,
            targets=[
                Target(
                    rate(registry.WEBHOOK_ATTEMPTS, by=["token_service.outcome"]),
                    "{{token_service_outcome}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Lag of webhooks",
            text=registry.WEBHOOK_LAG.text,
            targets=[Target(gauge(registry.WEBHOOK_LAG), "lag")],
            unit=Unit.SECONDS,
        ),
        Panel(
            title="Webhooks that need attention",
            text="Webhooks whose deliveries fail, dead letters, and events of the log that the slowest webhook has not handled.",
            targets=[
                Target(gauge(registry.WEBHOOKS_FAILING), "failing"),
                Target(gauge(registry.WEBHOOK_DEAD_LETTERS), "dead letters"),
                Target(gauge(registry.WEBHOOK_EVENTS_BEHIND), "events behind"),
            ],
        ),
    ],
)
OVERVIEW: Final = Dashboard(
    name="overview",
    title="Token service: overview",
    text="Requests, tokens, refusals and background work of the token service.",
    rows=(_STATE, _CALLS, _HTTP, _TOKENS, _REFUSALS, _PROCESSES),
)
