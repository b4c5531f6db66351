"""Rules and an example configuration in Prometheus's format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from token_service.telemetry.monitoring import yaml
from token_service.telemetry.monitoring.alerts import budget, groups
from token_service.telemetry.monitoring.alerts.alert import Alert
from token_service.telemetry.monitoring.query import duration, fill
from token_service.telemetry.monitoring.site import Site

_INTERVAL: Final = 30
"""Seconds between two evaluations."""
_SCRAPE: Final = 15
RECORDING: Final = "recording.yml"
ALERTS: Final = "alerts.yml"
CONFIGURATION: Final = "prometheus.yml"
_TARGETS: Final = ("node-1:9464", "node-2:9464")


def recording(site: Site) -> str:
    """Return the recording rules."""
    rules = [{"record": name, "expr": _filled(query, site)} for name, query in budget.recorded()]
    return yaml.text({"groups": [{"name": "token-service-shares", "rules": rules}]})


def alerts(site: Site) -> str:
    """Return the alerts."""
    return yaml.text(
        {
            "groups": [
                {
                    "name": f"token-service-{group.name}",
                    "rules": [_alert(each, site) for each in group.alerts],
                }
                for group in groups(site)
            ]
        }
    )


def _alert(alert: Alert, site: Site) -> Mapping[str, Any]:
    rule: dict[str, Any] = {"alert": alert.full_name, "expr": _filled(alert.query, site)}
    if alert.hold:
        rule["for"] = duration(alert.hold / site.pace)
    return {
        **rule,
        "labels": {"severity": alert.severity.value},
        "annotations": {
            "summary": alert.summary,
            "description": alert.text,
            "runbook_url": f"{site.docs}/runbooks/{alert.runbook}",
        },
    }


def _filled(query: str, site: Site) -> str:
    return fill(query, site.scope, site.pace)


def configuration(site: Site) -> str:
    """Return an example of a configuration, which loads the rules."""
    interval = duration(max(_SCRAPE / site.pace, 2))
    return yaml.text(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval if site.pace > 1 else "10s",
                "evaluation_interval": duration(_INTERVAL / site.pace),
            },
            "rule_files": [RECORDING, ALERTS],
            "scrape_configs": [
                {"job_name": site.job, "static_configs": [{"targets": list(site.targets or _TARGETS)}]}
            ],
        }
    )
