"""The W3C trace context of calls to the token service, if the application traces with OpenTelemetry."""

from __future__ import annotations

import sys
from typing import Any


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Return `traceparent` and `tracestate` of the application's active span; nothing without one.

    OpenTelemetry is not imported: there is no active span unless the application has imported it.
    """
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return ()
    span = api.get_current_span()
    context = span.get_span_context()
    # A background task inherits the span of its start, which may have ended.
    if not context.is_valid or getattr(span, "end_time", None) is not None:
        return ()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = context.trace_state.to_header()
    return (("traceparent", parent), ("tracestate", state)) if state else (("traceparent", parent),)


def trace_options() -> dict[str, Any]:
    """Return the option `metadata` of a gRPC call with the `trace_headers`.

    There is no option without an active span: a stub of a user's test need not take it.
    """
    headers = trace_headers()
    return {"metadata": headers} if headers else {}
