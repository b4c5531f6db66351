"""Calls from web pages of other origins (Fetch, section 3.2).

A page may read a response only if its origin is registered for the client that the request authenticates or names.
Cookies are never used, so credentials are never allowed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from starlette.requests import Request
from starlette.responses import Response

from token_service.core.clients.client import Client, ClientState
from token_service.errors import ServiceError

ANY_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
"""Headers of public documents."""
_PREFLIGHT: Final = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, DPoP",
    "Access-Control-Max-Age": "600",  # seconds
}
_EXPOSED: Final = "DPoP-Nonce, Retry-After, WWW-Authenticate"
_CLIENT: Final = "token_service.client_id"


class ClientOrigins(Protocol):
    """Registered clients in memory."""

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state; None if it is unknown."""

    def has_origin(self, origin: str) -> bool:
        """Tell whether any active client is registered with an origin."""
        ...


class Cors:
    """Decides which origins may call an endpoint and read its responses."""

    def __init__(self, clients: ClientOrigins) -> None:
        self._clients = clients

    def preflight(self, *methods: str) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint for preflights of an endpoint with these methods.

        A preflight does not name the client, so the origin of any active client is allowed to ask.
        """
        allowed = {"Access-Control-Allow-Methods": ", ".join(methods), **_PREFLIGHT}

        async def answer(request: Request) -> Response:
            headers = {"Vary": "Origin", "Cache-Control": "no-store"}
            origin = request.headers.get("origin", "")
            if "access-control-request-method" in request.headers and self._clients.has_origin(origin):
                headers |= {"Access-Control-Allow-Origin": origin, **allowed}
            return Response(status_code=204, headers=headers)

        return answer

    def answering(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint whose responses may be read by the origins of the client."""

        async def answer(request: Request) -> Response:
            return self._marked(request, await endpoint(request))

        return answer

    def refusing(
        self, refuse: Callable[[ServiceError, Request], Response]
    ) -> Callable[[ServiceError, Request], Response]:
        """Return a function whose responses for errors may be read by the origins of the client."""
        return lambda error, request: self._marked(request, refuse(error, request))

    def _marked(self, request: Request, response: Response) -> Response:
        response.raw_headers.append((b"vary", b"Origin"))
        origin = request.headers.get("origin")
        if origin is not None and self._allows(request.scope.get(_CLIENT, ""), origin):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
        return response

    def _allows(self, client_id: str, origin: str) -> bool:
        client = self._clients.get(client_id)
        return client is not None and client.state is ClientState.ACTIVE and origin in client.allowed_origins


def note_client(request: Request, client_id: str) -> None:
    """Note the client that a request names or authenticates, whose origins may read the response."""
    request.scope[_CLIENT] = client_id
