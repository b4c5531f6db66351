"""Metrics of a gateway, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from token_service.client._internal.counters import Counters
from token_service.client._internal.status import ValidatorStatus
from token_service.gateway.verdict import Verdict

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """Counts checks and reads the state of the validator. No label comes from a request."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._checks = Counter(
            "token_gateway_checks",
            "Checks by edge, outcome and reason.",
            ["edge", "outcome", "reason"],
            registry=self._registry,
        )
        seconds = Histogram(
            "token_gateway_check_seconds",
            "Time of a check in the gateway.",
            ["edge"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._reloads = Counter(
            "token_gateway_reloads",
            "Reloads of the configuration by outcome.",
            ["outcome"],
            registry=self._registry,
        )
        self._observe = {edge: seconds.labels(edge).observe for edge in ("grpc", "http")}
        self._increment: dict[tuple[str, str, str], Callable[[], None]] = {}

    def checked(self, edge: str, verdict: Verdict, seconds: float) -> None:
        """Count a check."""
        key = (edge, verdict.outcome.value, verdict.reason)
        increment = self._increment.get(key)
        if increment is None:
            increment = self._increment[key] = self._checks.labels(*key).inc
        increment()
        self._observe[edge](seconds)

    def reloaded(self, outcome: str) -> None:
        """Count a reload: `applied`, `unchanged` or `failed`."""
        self._reloads.labels(outcome).inc()

    def text(self) -> bytes:
        """Return the page of metrics."""
        return generate_latest(self._registry)

    def watch(self, read: Callable[[], GatewayReading]) -> None:
        """Show the state of the gateway, which `read` returns at each scrape."""
        self._registry.register(_State(read))


class GatewayReading:
    """What a scrape reads."""

    __slots__ = ("cached", "claims_omitted", "counters", "status", "waiting")

    def __init__(
        self, status: ValidatorStatus, counters: Counters, *, cached: int, waiting: int, claims_omitted: int
    ) -> None:
        self.status = status
        self.counters = counters
        self.cached = cached
        self.waiting = waiting
        self.claims_omitted = claims_omitted


class _State:
    def __init__(self, read: Callable[[], GatewayReading]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        status, counters = now.status, now.counters
        gauges: dict[str, tuple[str, float]] = {
            "ready": ("Whether every issuer has keys and the revocations are proven fresh.", status.ready),
            "connected": ("Whether the revocation stream is open.", status.connected),
            "keys_revision": (
                "Revision of the service's keys; -1: none yet.",
                _or_none(status.keys_revision),
            ),
            "issuers_without_keys": ("Issuers without a usable key.", len(status.issuers_without_keys)),
            "cached_tokens": ("Verified tokens in the cache.", now.cached),
            "checks_in_progress": ("Checks in progress.", now.waiting),
        }
        if status.issuer:
            gauges["staleness_seconds"] = (
                "Time since the revocations were proven complete; +Inf: never.",
                float("inf") if status.staleness is None else status.staleness,
            )
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"token_gateway_{name}", text, value)
        totals = {
            "signatures_verified": ("Tokens verified that were not in the cache.", counters.verified),
            "stale_rejections": ("Tokens refused because the gateway was stale.", counters.rejected_stale),
            "remote_calls": ("Tokens that the token service was asked for.", counters.remote_calls),
            "remote_failures": ("Such calls without an answer.", counters.remote_failures),
            "claims_omitted": ("Claims that were too long for a header.", now.claims_omitted),
        }
        for name, (text, value) in totals.items():
            yield CounterMetricFamily(f"token_gateway_{name}", text, float(value))


def _or_none(revision: int | None) -> float:
    return -1.0 if revision is None else float(revision)
