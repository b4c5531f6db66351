"""`POST /ssf/events/{transmitter}`: security event tokens that a transmitter pushes (RFC 8935, section 2)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from token_service.core.security_events.receiver import SecurityEventReceiver
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError
from token_service.errors import InvalidRequestError, ServiceError
from token_service.tokens.assertions import MAX_ASSERTION_BYTES
from token_service.tokens.security_event_token import SET_TYPE
from token_service.web.edge import UNCACHED, HttpEdge, refusal
from token_service.web.oauth.discovery import issuer_path
from token_service.web.oauth.parameters import read_body
from token_service.web.oauth.requests import origin_of

SECURITY_EVENTS: Final = "/ssf/events"
_CONTENT_TYPE: Final = f"application/{SET_TYPE}"
_HEADERS: Final = {**UNCACHED, "Content-Language": "en"}


class SecurityEventEndpoint:
    """The endpoint at which transmitters deliver security events."""

    def __init__(self, receiver: SecurityEventReceiver) -> None:
        self._receiver = receiver

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        transmitter = self._receiver.transmitters.get(request.path_params["transmitter"])
        if transmitter is None or transmitter.settings.push is None:
            return _error(404, SetErrorCode.INVALID_REQUEST, "the path names no transmitter that pushes")
        types = request.headers.getlist("content-type")
        if len(types) != 1 or types[0].partition(";")[0].strip().lower() != _CONTENT_TYPE:
            raise InvalidRequestError.of("content-type", f"must be {_CONTENT_TYPE}")
        body = await read_body(request, MAX_ASSERTION_BYTES)
        if not body.isascii():
            raise InvalidRequestError.of("body", "is no security event token")
        await self._receiver.take_pushed(
            transmitter, _bearer(request), body.decode("ascii"), origin_of(request)
        )
        return Response(status_code=202, headers=UNCACHED)


def security_event_route(edge: HttpEdge, endpoint: SecurityEventEndpoint, *, issuer: str) -> Route:
    """Return the route."""
    return edge.route(
        f"{issuer_path(issuer)}{SECURITY_EVENTS}/{{transmitter}}",
        None,
        endpoint.answer,
        methods=("POST",),
        refuse=_refusal,
    )


def _bearer(request: Request) -> str:
    """Return the one bearer token of a request; empty: it has none."""
    headers = request.headers.getlist("authorization")
    scheme, _, token = (headers[0] if len(headers) == 1 else "").partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else ""


def _refusal(error: ServiceError, _: Request) -> Response:
    """Return the response for an error: 400 with a registered code if the token can't be accepted (section 2.3)."""
    if isinstance(error, SetRefusedError):
        return _error(400, error.code, error.problem)
    if isinstance(error, InvalidRequestError):
        return _error(400, SetErrorCode.INVALID_REQUEST, error.message)
    return refusal(error)


def _error(status: int, code: SetErrorCode, description: str) -> Response:
    return JSONResponse({"err": code.value, "description": description}, status, _HEADERS)
