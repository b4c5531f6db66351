"""Which requests count for the objectives of the service, and which of them count as failed or slow."""

from __future__ import annotations

from typing import Final

from token_service.telemetry.monitoring.query import Where
from token_service.telemetry.registry import CALL_DURATION, REQUEST_DURATION

METHOD: Final = "rpc.method"
STATUS: Final = "rpc.response.status_code"
ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"

_PROBES: Final = "/readyz|/startupz|/livez|/healthz|/version|/metrics"
CALLS: Final = CALL_DURATION
REQUESTS: Final = REQUEST_DURATION
COUNTED_REQUESTS: Final[Where] = {ROUTE: f"!~{_PROBES}"}
"""Probes are no requests of clients: `/readyz` answers 503 on purpose."""
FAILED_CALLS: Final[Where] = {STATUS: "=~INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"}
"""The fault of the service. A refused token or a reached rate is an answer."""
FAILED_REQUESTS: Final[Where] = {**COUNTED_REQUESTS, HTTP_STATUS: "=~5.."}

QUICK: Final = 0.1
"""Seconds in which validations are to end."""
SLOWER: Final = 0.5
"""Seconds in which issuing and refreshing are to end: they wait for the database."""
VALIDATING: Final[Where] = {METHOD: "=~.*/(Batch)?ValidateTokens?"}
ISSUING: Final[Where] = {METHOD: "=~.*/(Issue|Refresh)Token"}
ISSUING_BY_HTTP: Final[Where] = {ROUTE: "=~.*/token"}
