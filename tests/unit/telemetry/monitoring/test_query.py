"""Queries: their form follows the kind of the metric, and unknown labels are refused."""

from __future__ import annotations

import pytest

from token_service.telemetry import registry
from token_service.telemetry.monitoring.query import (
    JOB,
    buckets,
    duration,
    each,
    fill,
    gauge,
    increase,
    or_zero,
    quantile,
    rate,
    rates_within,
    series,
    span,
)

SCOPE = 'job="x"'


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (rate(registry.EVENTS, "5m"), 'sum(rate(token_service_events_total{job="x"}[5m]))'),
        (
            increase(registry.KEY_STEPS, span(600), [JOB], {"token_service.outcome": "failed"}),
            'sum by (job) (increase(token_service_key_rotations_total{job="x",token_service_outcome="failed"}[10m]))',
        ),
        (rate(registry.PROPAGATION, "1m"), 'sum(rate(token_service_revocation_propagation_seconds_count{job="x"}[1m]))'),
        (
            quantile(0.99, registry.CALL_DURATION, "1m", ["rpc.method"]),
            'histogram_quantile(0.99, sum by (le, rpc_method) (rate(rpc_server_call_duration_seconds_bucket{job="x"}[1m])))',
        ),
        (
            rates_within(registry.CALL_DURATION, 1, "1m", {"rpc.method": "=~a|b"}),
            'rate(rpc_server_call_duration_seconds_bucket{job="x",rpc_method=~"a|b",le="1.0"}[1m])',
        ),
        (buckets(registry.PROPAGATION, "1m"),
         'sum by (le) (increase(token_service_revocation_propagation_seconds_bucket{job="x"}[1m]))'),
        (gauge(registry.STREAMS), 'sum(token_service_streams{job="x"})'),
        (gauge(registry.REPLICA_STALENESS, [JOB]), 'max by (job) (token_service_replica_staleness_seconds{job="x"})'),
        (gauge(registry.JANITOR_AGE, before=span(90)), 'min(token_service_janitor_age_seconds{job="x"} offset 90s)'),
        (each(registry.READY), 'token_service_ready{job="x"}'),
        (or_zero("x"), "x or on() vector(0)"),
        (series(registry.EVENTS, {"token_service.event": "!=revoked"}),
         'token_service_events_total{job="x",token_service_event!="revoked"}'),
    ],
)  # fmt: skip
def test_form_follows_the_kind(query: str, expected: str) -> None:
    assert fill(query, SCOPE) == expected


def test_pace_shortens_times() -> None:
    assert fill(f"x[{span(3600)}]", SCOPE, pace=60) == "x[1m]"
    assert fill(f"x[{span(30)}]", SCOPE, pace=60) == "x[1s]"
    assert [duration(seconds) for seconds in (1, 90, 120, 7200, 86_400)] == ["1s", "90s", "2m", "2h", "1d"]


def test_other_forms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"streams is a gauge"):
        rate(registry.STREAMS, "1m")
    with pytest.raises(ValueError, match=r"events is a counter"):
        gauge(registry.EVENTS)
    with pytest.raises(ValueError, match=r"events is a counter"):
        quantile(0.5, registry.EVENTS, "1m")
    with pytest.raises(ValueError, match=r"events has no label token_service\.reason"):
        rate(registry.EVENTS, "1m", ["token_service.reason"])
    with pytest.raises(ValueError, match=r"no bucket that ends at 0\.3"):
        rates_within(registry.CALL_DURATION, 0.3, "1m")
