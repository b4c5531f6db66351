"""The generated files, by their paths below `deploy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from token_service.telemetry.monitoring import grafana, prometheus
from token_service.telemetry.monitoring.dashboards import DASHBOARDS
from token_service.telemetry.monitoring.site import Site

_COMMAND: Final = "scripts/gen-dashboards"
_HEADS: Final = {
    prometheus.RECORDING: f"Made by {_COMMAND}: the shares of failed and of slow requests.",
    prometheus.ALERTS: f"Made by {_COMMAND} from the registry of metrics. docs/runbooks has a page for each alert.",
    prometheus.CONFIGURATION: (
        f"Made by {_COMMAND}: an example that scrapes two nodes at TOKEN_SERVICE_METRICS_ADDRESS.\n"
        "# That address has no TLS and no authentication: let only Prometheus reach it. If the page is at an HTTP address\n"
        "# with TOKEN_SERVICE_HTTP_TLS, add `scheme: https` and `tls_config: {ca_file: …}` to the job."
    ),
}


def files(site: Site) -> Mapping[str, str]:
    """Return all files for a site."""
    rules = {
        prometheus.RECORDING: prometheus.recording(site),
        prometheus.ALERTS: prometheus.alerts(site),
        prometheus.CONFIGURATION: prometheus.configuration(site),
    }
    return {
        **{f"grafana/{each.name}.json": grafana.document(each) for each in DASHBOARDS},
        **{f"prometheus/{name}": f"# {_HEADS[name]}\n{text}" for name, text in rules.items()},
    }


def write(directory: Path, site: Site) -> None:
    """Write all files below a directory."""
    for name, text in files(site).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def outdated(directory: Path, site: Site) -> list[str]:
    """Return the names of files below a directory that differ from what `write` would write."""
    return [
        name
        for name, text in files(site).items()
        if not (directory / name).is_file() or (directory / name).read_text(encoding="utf-8") != text
    ]
