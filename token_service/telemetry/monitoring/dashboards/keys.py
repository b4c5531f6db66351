"""Keys and certificates: do signatures and rotations work, and when does something expire?"""

from __future__ import annotations

from typing import Final

from token_service.telemetry import registry
from token_service.telemetry.monitoring.panel import Dashboard, Panel, Row, Target, Unit, View
from token_service.telemetry.monitoring.query import each, gauge, increase, or_zero, quantile, rate

_ALGORITHM: Final = "token_service.algorithm"
_OUTCOME: Final = "token_service.outcome"
_DAY: Final = 86_400
_KEYS: Final = Row(
    "Signing keys",
    [
        Panel(
            title="Next rotation",
            text=registry.KEY_NEXT_ROTATION.text,
            targets=[Target(gauge(registry.KEY_NEXT_ROTATION))],
            unit=Unit.SECONDS,
            view=View.NUMBER,
            width=6,
            warning=0,
            critical=-3600,
        ),
        Panel(
            title="Age of the active key",
            text="Since it became active.",
            targets=[
                Target(
                    gauge(registry.KEY_AGE, [_ALGORITHM], {"token_service.key_state": "active"}),
                    "{{token_service_algorithm}}",
                )
            ],
            unit=Unit.SECONDS,
            view=View.NUMBER,
            width=6,
        ),
        Panel(
            title="Age of the next key",
            text="Since it was published. None: validators would not know the next key in time.",
            targets=[
                Target(
                    gauge(registry.KEY_AGE, [_ALGORITHM], {"token_service.key_state": "prepared"}),
                    "{{token_service_algorithm}}",
                )
            ],
            unit=Unit.SECONDS,
            view=View.NUMBER,
            width=6,
        ),
        Panel(
            title="Failed steps in an hour",
            text="Steps of the key schedule that failed. The log of the node names the cause.",
            targets=[Target(increase(registry.KEY_STEPS, "1h", where={_OUTCOME: "failed"}))],
            view=View.NUMBER,
            width=6,
            critical=1,
        ),
        Panel(
            title="Age of keys by state",
            text=registry.KEY_AGE.text,
            targets=[
                Target(
                    gauge(registry.KEY_AGE, ["token_service.key_state", _ALGORITHM]),
                    "{{token_service_key_state}} {{token_service_algorithm}}",
                )
            ],
            unit=Unit.SECONDS,
            width=12,
        ),
        Panel(
            title="Steps of the key schedule in an hour",
            text=f"{registry.KEY_STEPS.text} `conflict`: another node was first.",
            targets=[Target(increase(registry.KEY_STEPS, "1h", by=[_OUTCOME]), "{{token_service_outcome}}")],
            width=12,
        ),
    ],
)
_SIGNATURES: Final = Row(
    "Signatures",
    [
        Panel(
            title="Signatures",
            text="Signatures by algorithm, place of the key and outcome.",
            targets=[
                Target(
                    rate(registry.SIGNATURE_DURATION, by=[_ALGORITHM, "token_service.provider", _OUTCOME]),
                    "{{token_service_algorithm}} {{token_service_provider}} {{token_service_outcome}}",
                )
            ],
            unit=Unit.PER_SECOND,
        ),
        Panel(
            title="Duration of signatures",
            text=registry.SIGNATURE_DURATION.text,
            targets=[
                Target(
                    quantile(share, registry.SIGNATURE_DURATION, by=[_ALGORITHM]),
                    f"{name} {{{{token_service_algorithm}}}}",
                )
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ],
            unit=Unit.SECONDS,
            warning=0.05,
        ),
        Panel(
            title="Failed signatures",
            text="Without a signature no token is issued. A failing HSM shows here first.",
            targets=[
                Target(or_zero(rate(registry.SIGNATURE_DURATION, where={_OUTCOME: "failed"})), "failed")
            ],
            unit=Unit.PER_SECOND,
        ),
    ],
)
_TLS: Final = Row(
    "TLS",
    [
        Panel(
            title="Certificates",
            text=f"{registry.CERTIFICATE_EXPIRY.text} No series: the nodes have no TLS.",
            targets=[Target(each(registry.CERTIFICATE_EXPIRY), "{{token_service_certificate}} {{instance}}")],
            unit=Unit.SECONDS,
            width=12,
            warning=30 * _DAY,
            critical=7 * _DAY,
        ),
        Panel(
            title="Failed handshakes",
            text=registry.TLS_FAILURES.text,
            targets=[
                Target(rate(registry.TLS_FAILURES, by=["token_service.reason"]), "{{token_service_reason}}")
            ],
            unit=Unit.PER_SECOND,
            width=12,
        ),
    ],
)
KEYS: Final = Dashboard(
    name="keys",
    title="Token service: keys",
    text="Signing keys, signatures and certificates.",
    rows=(_KEYS, _SIGNATURES, _TLS),
)
