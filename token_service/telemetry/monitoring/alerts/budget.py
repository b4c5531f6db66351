"""Objectives and burn rates: how fast does the service use up the failures that its objective allows in 30 days?

Two windows each: the long one shows that much of the budget is gone, and the short one that it still goes. At a burn
rate of 14.4 for an hour 2 % of the budget of 30 days are gone, at 6 for six hours 5 %, at 1 for three days 10 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from token_service.telemetry.monitoring import requests
from token_service.telemetry.monitoring.alerts.alert import Alert, Severity
from token_service.telemetry.monitoring.query import JOB, aggregate, duration, rates, rates_within, span
from token_service.telemetry.monitoring.site import Site

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_FAST: Final = ((14.4, _HOUR, 5 * _MINUTE), (6, 6 * _HOUR, 30 * _MINUTE))
_SLOW: Final = ((3, _DAY, 2 * _HOUR), (1, 3 * _DAY, 6 * _HOUR))
"""Burn rate, long window, short window."""
WINDOWS: Final = tuple(sorted({window for _, *both in (*_FAST, *_SLOW) for window in both}))

FAILED: Final = "token_service:requests_failed:ratio_rate"
SLOW: Final = "token_service:requests_slow:ratio_rate"
"""The beginnings of the names of recorded shares; the window follows."""


def recorded() -> Iterator[tuple[str, str]]:
    """Yield the name and the query of each recorded share."""
    for window in WINDOWS:
        yield f"{FAILED}{duration(window)}", _failed(span(window))
    for window in WINDOWS:
        yield f"{SLOW}{duration(window)}", _slow(span(window))


def _failed(window: str) -> str:
    failed = _together(
        rates(requests.CALLS, window, requests.FAILED_CALLS),
        rates(requests.REQUESTS, window, requests.FAILED_REQUESTS),
    )
    counted = _together(
        rates(requests.CALLS, window), rates(requests.REQUESTS, window, requests.COUNTED_REQUESTS)
    )
    return f"({failed} or 0 * {counted}) / {counted}"


def _slow(window: str) -> str:
    quick = _together(
        rates_within(requests.CALLS, requests.QUICK, window, requests.VALIDATING),
        rates_within(requests.CALLS, requests.SLOWER, window, requests.ISSUING),
        rates_within(requests.REQUESTS, requests.SLOWER, window, requests.ISSUING_BY_HTTP),
    )
    counted = _together(
        rates(requests.CALLS, window, requests.VALIDATING),
        rates(requests.CALLS, window, requests.ISSUING),
        rates(requests.REQUESTS, window, requests.ISSUING_BY_HTTP),
    )
    return f"1 - {quick} / {counted}"


def _together(*queries: str) -> str:
    """Add up series of several queries, also where one of them finds none."""
    return aggregate("sum", " or ".join(queries), [JOB])


def alerts(site: Site) -> list[Alert]:
    """Return the alerts on burn rates."""
    allowed = {FAILED: 1 - site.availability, SLOW: 1 - site.speed}
    failed, slow = f"{100 * site.availability:g}%", f"{100 * site.speed:g}%"
    return [
        Alert(
            name="ErrorBudgetFast",
            query=_burning(FAILED, _FAST, allowed),
            hold=2 * _MINUTE,
            severity=Severity.CRITICAL,
            summary="Many requests fail",
            text=f"{{{{ $value | humanizePercentage }}}} of the requests fail. The objective is that {failed} succeed.",
            page="error-budget",
        ),
        Alert(
            name="ErrorBudgetSlow",
            query=_burning(FAILED, _SLOW, allowed),
            hold=15 * _MINUTE,
            summary="More requests fail than the objective allows",
            text=f"{{{{ $value | humanizePercentage }}}} of the requests fail, for hours. The objective is that {failed} succeed.",
            page="error-budget",
        ),
        Alert(
            name="LatencyBudgetFast",
            query=_burning(SLOW, _FAST, allowed),
            hold=2 * _MINUTE,
            severity=Severity.CRITICAL,
            summary="Many validations or issued tokens are slow",
            text=f"{{{{ $value | humanizePercentage }}}} take longer than 0.1 s (validations) or 0.5 s (tokens). "
            f"The objective is that {slow} are quick.",
            page="latency-budget",
        ),
        Alert(
            name="LatencyBudgetSlow",
            query=_burning(SLOW, _SLOW, allowed),
            hold=15 * _MINUTE,
            summary="More validations or issued tokens are slow than the objective allows",
            text=f"{{{{ $value | humanizePercentage }}}} take longer than 0.1 s (validations) or 0.5 s (tokens), for hours. "
            f"The objective is that {slow} are quick.",
            page="latency-budget",
        ),
    ]


def _burning(name: str, windows: tuple[tuple[float, int, int], ...], allowed: dict[str, float]) -> str:
    return " or ".join(
        f"({name}{duration(long)} > {rate * allowed[name]:.6g} and {name}{duration(short)} > {rate * allowed[name]:.6g})"
        for rate, long, short in windows
    )
