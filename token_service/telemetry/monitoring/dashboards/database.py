"""The database: connections, queues, locks, the audit trail and the janitor."""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, Target, Unit
from token_service.telemetry.monitoring.query import INSTANCE, RATE, gauge, increase, or_zero, quantile, rate

_STATE: Final = "db.client.connection.state"
_QUANTILES: Final = ((0.5, "p50"), (0.99, "p99"))
_POOL: Final = Row(
    "Connections",
    [
        Panel(
            title="Connections",
            text="Connections of the pools of all processes, and their limit.",
            targets=[
                Target(gauge(registry.CONNECTIONS, [_STATE]), "{{db_client_connection_state}}"),
                Target(gauge(registry.CONNECTIONS_MAX), "limit"),
            ],
        ),
        Panel(
            title="Transactions that wait for a connection",
            text=registry.CONNECTION_REQUESTS.text,
            targets=[Target(gauge(registry.CONNECTION_REQUESTS, [INSTANCE]), "{{instance}}")],
            warning=1,
        ),
        Panel(
            title="Wait for a connection",
            text=registry.CONNECTION_WAIT.text,
            targets=[Target(quantile(share, registry.CONNECTION_WAIT), name) for share, name in _QUANTILES],
            unit=Unit.SECONDS,
            warning=0.1,
        ),
    ],
)
_WAITS: Final = Row(
    "Queues and locks",
    [
        Panel(
            title="Queued statements",
            text=f"{registry.LANE_QUEUED.text} A process refuses calls at 10,000.",
            targets=[Target(gauge(registry.LANE_QUEUED, ["token_service.lane"]), "{{token_service_lane}}")],
        ),
        Panel(
            title="Connections that wait for a lock",
            text=f"{registry.LOCK_WAITS.text} No series: the database is SQLite.",
            targets=[Target(gauge(registry.LOCK_WAITS), "connections")],
            warning=1,
        ),
        Panel(
            title="Longest wait for a lock",
            text=f"{registry.LOCK_WAIT_AGE.text} No series: the database is SQLite.",
            targets=[Target(gauge(registry.LOCK_WAIT_AGE), "age")],
            unit=Unit.SECONDS,
            warning=5,
        ),
    ],
)
_AUDIT: Final = Row(
    "Audit trail",
    [
        Panel(
            title="Audit events that wait",
            text=f"{registry.AUDIT_QUEUED.text} A process loses events beyond 10,000.",
            targets=[Target(gauge(registry.AUDIT_QUEUED, [INSTANCE]), "{{instance}}")],
            warning=1000,
            width=12,
        ),
        Panel(
            title="Lost audit events",
            text=f"{registry.AUDIT_LOST.text} In the interval between two points of the graph.",
            targets=[Target(increase(registry.AUDIT_LOST, RATE), "lost")],
            critical=1,
            width=12,
        ),
    ],
)
_JANITOR: Final = Row(
    "Janitor",
    [
        Panel(
            title="Time since the last purge",
            text="Of all nodes the lowest: one of them leads.",
            targets=[Target(gauge(registry.JANITOR_AGE), "age")],
            unit=Unit.SECONDS,
            width=6,
            warning=180,
        ),
        Panel(
            title="Leading process",
            text=f"{registry.JANITOR_LEADER.text} Two for a moment after a change.",
            targets=[Target(gauge(registry.JANITOR_LEADER, [INSTANCE]), "{{instance}}")],
            width=6,
        ),
        Panel(
            title="Duration of purges",
            text=registry.JANITOR_DURATION.text,
            targets=[
                Target(quantile(share, registry.JANITOR_DURATION, "10m"), name) for share, name in _QUANTILES
            ],
            unit=Unit.SECONDS,
            width=6,
        ),
        Panel(
            title="Deleted rows",
            text=registry.JANITOR_ROWS.text,
            targets=[Target(or_zero(rate(registry.JANITOR_ROWS, "10m")), "rows")],
            unit=Unit.PER_SECOND,
            width=6,
        ),
    ],
)
DATABASE: Final = Dashboard(
    name="database",
    title="Token service: database",
    text="Connections, queues and locks of the database, the audit trail and the janitor.",
    rows=(_POOL, _WAITS, _AUDIT, _JANITOR),
)
