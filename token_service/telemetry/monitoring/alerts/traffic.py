"""Alerts about callers and tokens that are not as usual: attacks, loops and wrong configurations."""

from __future__ import annotations

from typing import Final

from token_service.core.events.event import Action
from token_service.errors import InvalidReason, Reason
from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert
from token_service.telemetry.monitoring.query import JOB, aggregate, increase, rate, rates, span

_MINUTE, _DAY = 60, 86_400
_REASON: Final = "token_service.reason"
_REUSED: Final = {"token_service.event": Action.REFRESH_TOKEN_REUSED.value}
_FOREIGN: Final = f"{InvalidReason.BAD_SIGNATURE}|{InvalidReason.WRONG_ISSUER}"
_DENIED: Final = f"{Reason.PERMISSION_DENIED}|{Reason.CALLER_UNAUTHENTICATED}"


def alerts() -> list[Alert]:
    """Return the alerts about traffic."""
    window, by = span(10 * _MINUTE), [JOB]
    reused = increase(registry.EVENTS, window, by, _REUSED)
    usual = rate(registry.EVENTS, span(_DAY), by, _REUSED)
    refused = rate(registry.RATE_LIMITED, window, by)
    forged = aggregate(
        "sum",
        f"{rates(registry.VALIDATIONS, window, {'token_service.verdict': f'=~{_FOREIGN}'})} or "
        f"{rates(registry.VALIDATOR_REFUSALS, window, {_REASON: f'=~{_FOREIGN}'})}",
        by,
    )
    return [
        Alert(
            name="RefreshTokenReuse",
            query=f"{reused} > 10 and {rate(registry.EVENTS, window, by, _REUSED)} > 3 * {usual}",
            hold=0,
            summary="Superseded refresh tokens are used",
            text="{{ $value | humanize }} sessions ended in 10 minutes because of reuse: stolen tokens, or clients that lose answers.",
        ),
        Alert(
            name="ForgedTokens",
            query=f"{forged} > 1",
            hold=5 * _MINUTE,
            summary="Forged or foreign tokens are presented",
            text="{{ $value | humanize }} tokens a second have a bad signature or a wrong issuer.",
        ),
        Alert(
            name="CallersDenied",
            query=f"{rate(registry.REFUSALS, window, by, {_REASON: f'=~{_DENIED}'})} > 1",
            hold=5 * _MINUTE,
            summary="Callers are denied",
            text="{{ $value | humanize }} calls a second lack a right or a proof of their caller.",
        ),
        Alert(
            name="RateLimitDenials",
            query=f"{refused} > 1 and {refused} > 0.1 * {rate(registry.RATE_ADMITTED, window, by)}",
            hold=10 * _MINUTE,
            summary="Rates of the policy refuse many calls",
            text="{{ $value | humanize }} calls a second are refused, more than a tenth of the admitted ones.",
        ),
        Alert(
            name="HandshakeFailures",
            query=f"{rate(registry.TLS_FAILURES, window, [*by, _REASON])} > 0.1",
            hold=10 * _MINUTE,
            summary="TLS handshakes fail",
            text="{{ $value | humanize }} handshakes a second fail ({{ $labels.token_service_reason }}).",
        ),
    ]
