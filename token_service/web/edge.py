"""The wrapper around every HTTP endpoint.

It asks the gate, limits the number and the duration of running requests, converts every failure to a response, and
measures durations, like `token_service.rpc.server.edge` for gRPC.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.errors import OverloadedError, ServiceError
from token_service.telemetry import Counter, Histogram, Tracer, request_scope
from token_service.telemetry.spans import note_error
from token_service.telemetry.trace_context import parent_of
from token_service.telemetry.unexpected import unexpected
from token_service.web.deadlines import Deadlines
from token_service.web.peer import Peers
from token_service.wire import HTTP_STATUS

UNCACHED: Final = {"Cache-Control": "no-store"}
_FIRST_ERROR: Final = 400
_RETRY_AFTER: Final = 0.5
"""Seconds after which a client may try an overloaded server again."""

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
Refuse = Callable[[ServiceError, Request], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Limits on the number of concurrent HTTP requests, and on the duration of one."""

    max_requests: int = 1000
    request_deadline: float = 20.0
    """Seconds. Shorter than `ConnectionLimits.answer_timeout`, so that the client still receives the error."""


class HttpEdge:
    """A wrapper of endpoints. `running` is the number of requests in progress."""

    def __init__(
        self,
        limits: RequestLimits | None = None,
        duration: Histogram | None = None,
        peers: Peers | None = None,
        errors: Counter | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Create a wrapper that records durations in `duration` and counts errors in `errors`, unless they are None.

        `peers` admits the peers of endpoints that identify their callers.
        """
        self._limits = limits or RequestLimits()
        self._deadlines = Deadlines(self._limits.request_deadline)
        self._peers = peers or Peers()
        self._duration = duration
        self._errors = errors
        self._tracer = tracer
        self.running = 0

    def limit_requests(self, most: int) -> None:
        """Change the number of concurrent requests. Running requests go on."""
        self._limits = replace(self._limits, max_requests=most)

    def route(
        self,
        path: str,
        use_case: UseCase | None,
        endpoint: Endpoint,
        *,
        methods: Sequence[str] = ("GET",),
        refuse: Refuse | None = None,
        always: bool = False,
    ) -> Route:
        """Return the route of an endpoint.

        `use_case` must be open to every caller; None: the endpoint identifies its caller and asks the gate itself, and
        `peer_of` returns the peer. `refuse` makes the responses for errors. `always` exempts the endpoint from the limit
        on concurrent requests. Health checks need this: an overload must not make a supervisor end the process.
        """
        refuse = refuse or _plainly

        async def call(request: Request) -> Response:
            began = perf_counter()
            request_scope.begin(request.headers.items)
            try:
                response = await self._answer(request, use_case, endpoint, always=always)
            except ServiceError as error:
                response = self._refuse(refuse, error, request)
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a response
                error = unexpected(error, f"{request.method} {path}", logger)
                response = self._refuse(refuse, error, request)
            if response.status_code >= _FIRST_ERROR:
                response.headers["X-Request-Id"] = request_scope.request_id()
            if self._duration is not None:
                self._duration.record(perf_counter() - began, path, request.method, str(response.status_code))
            return response

        tracer = None if always else self._tracer  # health checks would fill the traces
        return Route(path, call if tracer is None else _traced(path, call, tracer), methods=[*methods])

    def _refuse(self, refuse: Refuse, error: ServiceError, request: Request) -> Response:
        if self._errors is not None:
            self._errors.add(1, "http", error.reason.value)
        note_error(error.reason.value)
        return refuse(error, request)

    async def _answer(
        self, request: Request, use_case: UseCase | None, endpoint: Endpoint, *, always: bool
    ) -> Response:
        if use_case is not None:
            admit(Caller.anonymous(), use_case)
        else:
            self._peers.admit(request)
        if self.running >= self._limits.max_requests and not always:
            raise OverloadedError(retry_after=_RETRY_AFTER)
        self.running += 1
        try:
            return await self._deadlines.keep(endpoint(request))
        finally:
            self.running -= 1


def _traced(path: str, endpoint: Endpoint, tracer: Tracer) -> Endpoint:
    """Wrap an endpoint to trace each request, as a child of the client's span, with its route, status and error reason.

    The path and the query of a request may have names and secrets, and are not recorded.
    """

    async def call(request: Request) -> Response:
        method = request.method
        attributes = {"http.request.method": method, "http.route": path, "url.scheme": request.url.scheme}
        with tracer.call(f"{method} {path}", attributes, parent_of(request.headers.items())) as span:
            response = await endpoint(request)
            status = response.status_code
            span.end("http.response.status_code", status, is_failure=status >= 500)
        return response

    return call


def _plainly(error: ServiceError, _: Request) -> Response:
    return refusal(error)


def refusal(error: ServiceError) -> Response:
    """Return the response for an error: its reason, its message, and the id of an unexpected error."""
    headers = dict(UNCACHED)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(error.retry_after)))
    body = {"reason": error.reason.value, "message": error.message}
    if "error_id" in error.metadata:
        body["error_id"] = error.metadata["error_id"]
    return JSONResponse({"error": body}, HTTP_STATUS[error.reason], headers)
