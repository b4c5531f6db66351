"""The telemetry of the token service: log lines, the audit trail and metrics."""

from token_service.telemetry.audit import Audit
from token_service.telemetry.lines import configure_logging
from token_service.telemetry.metrics import Histogram, Metrics, find_exporters

__all__ = ["Audit", "Histogram", "Metrics", "configure_logging", "find_exporters"]
