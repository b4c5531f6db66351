"""The telemetry of the token service: log lines, the audit trail, metrics and traces."""

from token_service.telemetry.audit import Audit
from token_service.telemetry.lines import configure_logging
from token_service.telemetry.metrics import Counter, Histogram, Metrics
from token_service.telemetry.otel import find_exporters, require_shareable_exporters
from token_service.telemetry.traces import Tracer, Traces, check_traces

__all__ = [
    "Audit",
    "Counter",
    "Histogram",
    "Metrics",
    "Tracer",
    "Traces",
    "check_traces",
    "configure_logging",
    "find_exporters",
    "require_shareable_exporters",
]
