"""Alerts about signing keys, signatures and certificates."""

from __future__ import annotations

from typing import Final

from token_service.core.keys.store import SigningKeyState
from token_service.telemetry import registry
from token_service.telemetry.monitoring.alerts.alert import Alert, Severity
from token_service.telemetry.monitoring.query import JOB, each, gauge, increase, quantile, rate, span

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_OUTCOME: Final = "token_service.outcome"
_STATE: Final = "token_service.key_state"
_PROVIDER: Final = "token_service.provider"


def alerts() -> list[Alert]:
    """Return the alerts about keys."""
    signatures = registry.SIGNATURE_DURATION
    window, by = span(5 * _MINUTE), [JOB, _PROVIDER]
    return [
        Alert(
            name="KeyOverdue",
            query=f"{gauge(registry.KEY_NEXT_ROTATION, [JOB])} < {-_HOUR}",
            hold=10 * _MINUTE,
            summary="The signing key is too old",
            text="The signing key was due to be replaced (time left: {{ $value | humanizeDuration }}).",
        ),
        Alert(
            name="NoNextKey",
            query=(
                f"{gauge(registry.KEY_AGE, [JOB], {_STATE: SigningKeyState.ACTIVE.value})}"
                f" unless on({JOB}) {gauge(registry.KEY_AGE, [JOB], {_STATE: SigningKeyState.PREPARED.value})}"
            ),
            hold=15 * _MINUTE,
            summary="There is no next signing key",
            text="The active key is {{ $value | humanizeDuration }} old, and no key is published to follow it.",
        ),
        Alert(
            name="KeyRotationFailing",
            query=f"{increase(registry.KEY_STEPS, span(15 * _MINUTE), [JOB], {_OUTCOME: 'failed'})} > 0",
            hold=0,
            summary="A step of the key schedule failed",
            text="{{ $value | humanize }} steps failed in 15 minutes.",
        ),
        Alert(
            name="SigningFailing",
            query=f"{rate(signatures, window, by, {_OUTCOME: 'failed'})} / {rate(signatures, window, by)} > 0.01",
            hold=_MINUTE,
            severity=Severity.CRITICAL,
            summary="Signatures fail",
            text="{{ $value | humanizePercentage }} of the signatures by {{ $labels.token_service_provider }} fail.",
        ),
        Alert(
            name="SigningSlow",
            query=f"{quantile(0.99, signatures, window, by)} > 0.05",
            hold=10 * _MINUTE,
            summary="Signatures are slow",
            text="The slowest of 100 signatures by {{ $labels.token_service_provider }} took {{ $value | humanizeDuration }}.",
        ),
        Alert(
            name="CertificateExpiring",
            query=f"{each(registry.CERTIFICATE_EXPIRY)} < {30 * _DAY}",
            hold=_HOUR,
            summary="A certificate expires within 30 days",
            text="{{ $labels.token_service_certificate }} of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
        ),
        Alert(
            name="CertificateAlmostExpired",
            query=f"{each(registry.CERTIFICATE_EXPIRY)} < {7 * _DAY}",
            hold=5 * _MINUTE,
            severity=Severity.CRITICAL,
            summary="A certificate expires within 7 days",
            text="{{ $labels.token_service_certificate }} of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}.",
            page="certificate-expiring",
        ),
    ]
