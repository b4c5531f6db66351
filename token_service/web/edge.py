"""The wrapper around every HTTP endpoint.

It asks the gate, limits the number and the duration of running requests, converts every failure to a response, and
measures durations, like `token_service.rpc.server.edge` for gRPC.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil
from time import perf_counter
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.errors import OverloadedError, ServiceError
from token_service.telemetry import Histogram
from token_service.telemetry.unexpected import unexpected
from token_service.web.deadlines import Deadlines
from token_service.web.peer import Peers
from token_service.wire import HTTP_STATUS

UNCACHED: Final = {"Cache-Control": "no-store"}
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
    ) -> None:
        """Create a wrapper that records durations in `duration`; None records nothing.

        `peers` admits the peers of endpoints that identify their callers.
        """
        self._limits = limits or RequestLimits()
        self._deadlines = Deadlines(self._limits.request_deadline)
        self._peers = peers or Peers()
        self._duration = duration
        self.running = 0

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
            try:
                response = await self._answer(request, use_case, endpoint, always=always)
            except ServiceError as error:
                response = refuse(error, request)
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes a response
                response = refuse(unexpected(error, f"{request.method} {path}", logger), request)
            if self._duration is not None:
                self._duration.record(
                    perf_counter() - began,
                    {
                        "http.route": path,
                        "http.request.method": request.method,
                        "http.response.status_code": response.status_code,
                    },
                )
            return response

        return Route(path, call, methods=[*methods])

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
