"""Time series with which each alert fires, and others just below, for `promtool test rules`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from token_service.telemetry import registry
from token_service.telemetry.metric import Metric
from token_service.telemetry.monitoring import requests
from token_service.telemetry.monitoring.query import Where, fill, series

HOUR, DAY = 60, 1440
"""In minutes, the interval of the series."""


def node(
    metric: Metric, values: str, where: Where | None = None, *, of: str = "a:1", **more: str
) -> tuple[str, str]:
    """Return a series of a node, and its values."""
    text = series(metric, where, **more)
    return fill(text, f'job="token-service",instance="{of}"'), values


def up(values: str, of: str = "a:1") -> tuple[str, str]:
    return f'up{{job="token-service",instance="{of}"}}', values


def version(name: str, of: str) -> tuple[str, str]:
    return f'target_info{{job="token-service",instance="{of}",service_version="{name}"}}', "1x40"


@dataclass(frozen=True)
class Case:
    """`fires` and `quiet`: series by their values, from the first minute on. `at`: the minute to look at."""

    alert: str
    fires: list[tuple[str, str]]
    quiet: list[tuple[str, str]]
    at: int = 30
    every: int = 1
    """Minutes between two values."""

    def tests(self) -> list[Mapping[str, Any]]:
        """Return the two tests in promtool's format."""
        return [self._test(self.fires, fires=True), self._test(self.quiet, fires=False)]

    def _test(self, inputs: list[tuple[str, str]], *, fires: bool) -> Mapping[str, Any]:
        firing = f'count(ALERTS{{alertname="TokenService{self.alert}",alertstate="firing"}}) > bool 0'
        samples = [{"labels": "{}", "value": 1}] if fires else []
        return {
            "name": f"{self.alert} {'fires' if fires else 'is quiet'}",
            "interval": f"{self.every}m",
            "input_series": [{"series": name, "values": values} for name, values in inputs],
            "promql_expr_test": [{"expr": firing, "eval_time": f"{self.at}m", "exp_samples": samples}],
        }


def _calls(failed: int, of: int, count: int) -> list[tuple[str, str]]:
    calls = registry.CALL_DURATION
    method = {requests.METHOD: "token_service.v1.TokenService/IssueToken"}
    return [
        node(calls, f"0+{of - failed}x{count}", {**method, requests.STATUS: "OK"}, sample="_count"),
        node(calls, f"0+{failed}x{count}", {**method, requests.STATUS: "INTERNAL"}, sample="_count"),
    ]


def _slow(slow: int, of: int, count: int) -> list[tuple[str, str]]:
    method = {
        requests.METHOD: "token_service.v1.TokenService/ValidateToken",
        requests.STATUS: "OK",
    }
    calls = registry.CALL_DURATION
    return [
        node(calls, f"0+{of}x{count}", method, sample="_count"),
        node(calls, f"0+{of - slow}x{count}", method, sample="_bucket", le="0.1"),
    ]


def _histogram(
    metric: Metric, quick: int, slow: int, bound: float, where: Where | None = None
) -> list[tuple[str, str]]:
    """Return 40 minutes of measurements, `slow` of them above a bound and below the next one."""
    place = metric.buckets.index(bound)
    uppers = [repr(float(each)) for each in metric.buckets] + ["+Inf"]
    return [
        *(
            node(
                metric,
                f"0+{quick if number <= place else quick + slow}x40",
                where,
                sample="_bucket",
                le=upper,
            )
            for number, upper in enumerate(uppers)
        ),
        node(metric, f"0+{quick + slow}x40", where, sample="_count"),
    ]


def _growth(
    metric: Metric, where: Where | None = None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return a counter that grows by one at the 25th minute, and one that stays."""
    return [node(metric, "0x24 1x20", where, **_count(metric))], [
        node(metric, "5x40", where, **_count(metric))
    ]


def _count(metric: Metric) -> dict[str, str]:
    return {"sample": "_count"} if metric.kind.value == "histogram" else {}


def _gauge(
    metric: Metric, fires: float, quiet: float, where: Where | None = None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return [node(metric, f"{fires}x100", where)], [node(metric, f"{quiet}x100", where)]


_OUTCOME, _STATE, _REASON = "token_service.outcome", "token_service.key_state", "token_service.reason"
_MAX = {"token_service.statistic": "max"}
_P11 = {"token_service.provider": "pkcs11", "token_service.algorithm": "RS256"}
_LOCAL = {"token_service.provider": "local", "token_service.algorithm": "RS256", _OUTCOME: "ok"}
_ENGINE = {"db.client.connection.pool.name": "engine"}
_SERVER = {"token_service.certificate": "server"}
_ALL = {"token_service.target": "everything"}
_EC = {"token_service.algorithm": "ES256"}
_RATED = {"token_service.operation": "issue", "token_service.bucket": "client"}
_REUSED = {"token_service.event": "refresh_token.reused"}
_ANSWERING = [up("1x100"), node(registry.READY, "1x100")]

CASES = [
    # A window that is longer than the series has the share of the series. With the failures over, the short window ends
    # the alert.
    Case("ErrorBudgetFast", _calls(61, 10_000, HOUR), _calls(59, 10_000, HOUR), at=HOUR),
    Case(
        "ErrorBudgetFast",
        _calls(200, 10_000, 2 * HOUR),
        [
            _calls(200, 10_000, 2 * HOUR)[0],
            (_calls(200, 10_000, 0)[1][0], f"0+200x{HOUR} {200 * HOUR}x{HOUR}"),
        ],
        at=HOUR + 40,
    ),
    Case(
        "ErrorBudgetSlow",
        _calls(11, 10_000, 2 * HOUR // 5),
        _calls(9, 10_000, 2 * HOUR // 5),
        at=2 * HOUR,
        every=5,
    ),
    Case("LatencyBudgetFast", _slow(61, 1000, HOUR), _slow(59, 1000, HOUR), at=HOUR),
    Case(
        "LatencyBudgetSlow",
        _slow(11, 1000, 2 * HOUR // 5),
        _slow(9, 1000, 2 * HOUR // 5),
        at=2 * HOUR,
        every=5,
    ),
    Case("Down", [up("0x40"), up("0x40", "b:1")], [up("0x40"), up("1x40", "b:1")]),
    Case("Down", [], _ANSWERING),
    Case(
        "Down",
        [up("1x40"), node(registry.READY, "0x40")],
        [up("1x40"), node(registry.READY, "0x40"), node(registry.READY, "1x40", of="b:1")],
    ),
    Case("NodeDown", [up("1x27 0x2")], [up("1x28 0x2")], at=30),
    Case("NodeNotReady", *_gauge(registry.READY, 0, 1)),
    Case(
        "WorkerRestarts",
        [node(registry.WORKER_STARTS, "2x20 3 4 5x20")],
        [node(registry.WORKER_STARTS, "2x20 3 3 3x20")],
    ),
    Case(
        "VersionsMixed",
        [version("1.0", "a:1"), version("1.1", "b:1")],
        [version("1.0", "a:1"), version("1.0", "b:1")],
        at=2 * HOUR + 5,
        every=5,
    ),
    Case("RedisLost", *_gauge(registry.REDIS_IN_USE, 0, 1)),
    Case("PolicyFileFailing", *_gauge(registry.POLICY_FILE_FAILING, 1, 0)),
    Case("InternalErrors", *_growth(registry.REFUSALS, {"token_service.edge": "grpc", _REASON: "INTERNAL"})),
    Case("ReplicaBehind", *_gauge(registry.REPLICA_STALENESS, 5.1, 4.9)),
    Case(
        "ReplicasApart",
        [node(registry.LOG_HEAD, "0+10x40"), node(registry.LOG_HEAD, "0+10x10 100x40", of="b:1")],
        [node(registry.LOG_HEAD, "0+10x40"), node(registry.LOG_HEAD, "0 0+10x40", of="b:1")],
    ),
    Case("SubscribersStale", *_gauge(registry.SUBSCRIBER_STALENESS, 10.1, 9.9, _MAX)),
    Case("SubscribersSilent", *_gauge(registry.SUBSCRIBERS_SILENT, 1, 0)),
    Case(
        "SubscribersDropped",
        [node(registry.SUBSCRIBERS, "10x25 4x20")],
        [node(registry.SUBSCRIBERS, "10x25 5x20")],
    ),
    Case(
        "PropagationSlow",
        _histogram(registry.PROPAGATION, 97, 3, 1, {_OUTCOME: "confirmed"}),
        _histogram(registry.PROPAGATION, 1000, 1, 1, {_OUTCOME: "confirmed"}),
    ),
    Case("PropagationTimeouts", *_growth(registry.PROPAGATION, {_OUTCOME: "timeout"})),
    Case(
        "EverythingRevoked",
        [node(registry.REVOCATIONS, "0x24 1x20", _ALL)],
        [node(registry.REVOCATIONS, "1x10 0x40", _ALL)],
    ),
    Case("KeyOverdue", *_gauge(registry.KEY_NEXT_ROTATION, -3601, -3599)),
    Case(
        "NoNextKey",
        [node(registry.KEY_AGE, "60x40", {_STATE: "active", **_EC})],
        [
            node(registry.KEY_AGE, "60x40", {_STATE: "active", **_EC}),
            node(registry.KEY_AGE, "60x40", {_STATE: "prepared", **_EC}, of="b:1"),
        ],
    ),
    Case("KeyRotationFailing", *_growth(registry.KEY_STEPS, {_OUTCOME: "failed"})),
    Case(
        "SigningFailing",
        [
            node(registry.SIGNATURE_DURATION, "0+989x40", {**_P11, _OUTCOME: "ok"}, sample="_count"),
            node(registry.SIGNATURE_DURATION, "0+11x40", {**_P11, _OUTCOME: "failed"}, sample="_count"),
        ],
        [
            node(registry.SIGNATURE_DURATION, "0+991x40", {**_P11, _OUTCOME: "ok"}, sample="_count"),
            node(registry.SIGNATURE_DURATION, "0+9x40", {**_P11, _OUTCOME: "failed"}, sample="_count"),
        ],
    ),
    Case(
        "SigningSlow",
        _histogram(registry.SIGNATURE_DURATION, 97, 3, 0.05, _LOCAL),
        _histogram(registry.SIGNATURE_DURATION, 1000, 1, 0.05, _LOCAL),
    ),
    Case(
        "CertificateExpiring",
        *_gauge(registry.CERTIFICATE_EXPIRY, 30 * 86_400 - 1, 30 * 86_400, _SERVER),
        at=70,
    ),
    Case(
        "CertificateAlmostExpired", *_gauge(registry.CERTIFICATE_EXPIRY, 7 * 86_400 - 1, 7 * 86_400, _SERVER)
    ),
    Case("PoolExhausted", *_gauge(registry.CONNECTION_REQUESTS, 1, 0, _ENGINE)),
    Case(
        "ConnectionsSlow",
        _histogram(registry.CONNECTION_WAIT, 97, 3, 0.1, _ENGINE),
        _histogram(registry.CONNECTION_WAIT, 1000, 1, 0.1, _ENGINE),
    ),
    Case("QueueLong", *_gauge(registry.LANE_QUEUED, 5001, 5000, {"token_service.lane": "write"})),
    Case("LockWaits", *_gauge(registry.LOCK_WAITS, 1, 0)),
    Case("AuditTrailFailing", *_gauge(registry.AUDIT_FAILING, 1, 0)),
    Case("AuditQueueGrowing", *_gauge(registry.AUDIT_QUEUED, 1001, 1000)),
    Case("AuditEventsLost", *_growth(registry.AUDIT_LOST)),
    Case(
        "JanitorBehind",
        [node(registry.JANITOR_AGE, "181x40"), node(registry.JANITOR_LEADER, "1x40")],
        [node(registry.JANITOR_AGE, "179x40"), node(registry.JANITOR_LEADER, "1x40")],
    ),
    Case("JanitorBehind", *_gauge(registry.JANITOR_LEADER, 0, 1)),
    Case(
        "JanitorSlow",
        _histogram(registry.JANITOR_DURATION, 97, 3, 60),
        _histogram(registry.JANITOR_DURATION, 1000, 1, 60),
    ),
    Case("EventsWaiting", *_gauge(registry.EVENT_LOG_WAITING, 61, 60)),
    Case("LogoutsPending", *_gauge(registry.LOGOUTS_PENDING, 101, 100)),
    Case("LogoutsGivenUp", *_growth(registry.LOGOUTS, {_OUTCOME: "given_up"})),
    Case("EventStreamBehind", *_gauge(registry.SSF_WAITING_AGE, 901, 900)),
    Case("EventStreamPaused", *_growth(registry.SSF_PAUSES, {"token_service.cause": "not_acknowledged"})),
    Case("EventStreamPaused", *_growth(registry.SSF_PAUSES, {"token_service.cause": "events_expired"})),
    Case("WebhooksFailing", *_gauge(registry.WEBHOOKS_FAILING, 1, 0)),
    Case("WebhookDeadLetters", *_growth(registry.WEBHOOK_ATTEMPTS, {_OUTCOME: "dead_letter"})),
    Case(
        "RefreshTokenReuse",
        [node(registry.EVENTS, "0x24 3+3x20", _REUSED)],
        [node(registry.EVENTS, "0x24 1+1x20", _REUSED)],
    ),
    Case(
        "RefreshTokenReuse",
        [node(registry.EVENTS, f"0+5x{DAY // 5} {DAY}+50x6", _REUSED)],
        [node(registry.EVENTS, f"0+10x{DAY // 5} {2 * DAY}+25x6", _REUSED)],
        at=DAY + 20,
        every=5,
    ),
    Case(
        "ForgedTokens",
        [node(registry.VALIDATIONS, "0+61x40", {"token_service.verdict": "BAD_SIGNATURE"})],
        [node(registry.VALIDATIONS, "0+59x40", {"token_service.verdict": "BAD_SIGNATURE"})],
    ),
    Case(
        "ForgedTokens",
        [
            node(registry.VALIDATIONS, "0+31x40", {"token_service.verdict": "WRONG_ISSUER"}),
            node(registry.VALIDATOR_REFUSALS, "0+31x40", {_REASON: "WRONG_ISSUER"}),
        ],
        [node(registry.VALIDATOR_REFUSALS, "0+600x40", {_REASON: "EXPIRED"})],
    ),
    Case(
        "CallersDenied",
        [node(registry.REFUSALS, "0+61x40", {"token_service.edge": "grpc", _REASON: "PERMISSION_DENIED"})],
        [node(registry.REFUSALS, "0+59x40", {"token_service.edge": "grpc", _REASON: "PERMISSION_DENIED"})],
    ),
    Case(
        "RateLimitDenials",
        [node(registry.RATE_LIMITED, "0+61x40", _RATED), node(registry.RATE_ADMITTED, "0+600x40", _RATED)],
        [node(registry.RATE_LIMITED, "0+61x40", _RATED), node(registry.RATE_ADMITTED, "0+620x40", _RATED)],
    ),
    Case(
        "HandshakeFailures",
        [node(registry.TLS_FAILURES, "0+7x40", {_REASON: "certificate"})],
        [node(registry.TLS_FAILURES, "0+5x40", {_REASON: "certificate"})],
    ),
]
