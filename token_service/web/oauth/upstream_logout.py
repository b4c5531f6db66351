"""`POST /backchannel-logout/{upstream}` (OpenID Connect Back-Channel Logout 1.0, section 2.5)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from token_service.clock import Clock
from token_service.core.events.event import Origin
from token_service.core.limits import MAX_USER_AGENT
from token_service.core.login.upstream_logout import UpstreamLogout
from token_service.errors import ServiceError
from token_service.web.edge import HttpEdge
from token_service.web.oauth.discovery import issuer_path
from token_service.web.oauth.errors import NO_STORE, oauth_refusal
from token_service.web.oauth.parameters import read_form
from token_service.web.peer import peer_of

BACK_CHANNEL_LOGOUT: Final = "/backchannel-logout"


class UpstreamLogoutEndpoint:
    """The endpoint at which identity providers report logouts."""

    def __init__(self, logouts: UpstreamLogout, clock: Clock) -> None:
        self._logouts = logouts
        self._clock = clock

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`."""
        token = (await read_form(request)).required("logout_token")
        origin = Origin(peer_of(request).address, request.headers.get("user-agent", "")[:MAX_USER_AGENT])
        await self._logouts.logout(request.path_params["upstream"], token, self._clock.now(), origin)
        return Response(status_code=200, headers=NO_STORE)


def upstream_logout_route(edge: HttpEdge, logouts: UpstreamLogoutEndpoint, *, issuer: str) -> Route:
    """Return the route. Providers are told of it where they know this service as a client."""
    return edge.route(
        f"{issuer_path(issuer)}{BACK_CHANNEL_LOGOUT}/{{upstream}}",
        None,
        logouts.answer,
        methods=("POST",),
        refuse=_refusal,
    )


def _refusal(error: ServiceError, request: Request) -> Response:
    """Return the response for an error: 400 for each logout that failed (section 2.8)."""
    response = oauth_refusal(error, request)
    response.status_code = 400
    return response
