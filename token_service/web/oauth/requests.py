"""The conversion of HTTP requests to what grants take."""

from __future__ import annotations

from starlette.requests import Request

from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.events.event import Origin
from token_service.core.grants.commands import GrantRequest
from token_service.core.limits import MAX_USER_AGENT
from token_service.web.oauth.parameters import Parameters
from token_service.web.peer import peer_of


def grant_request(request: Request, parameters: Parameters, keys: ProvedKeys = NO_KEYS) -> GrantRequest:
    """Return what every grant has in common: scopes, audience, origin and the proved keys."""
    return GrantRequest(
        scopes=parameters.words("scope"),
        audience=tuple(dict.fromkeys((*parameters.all("resource"), *parameters.all("audience")))),
        origin=origin_of(request),
        keys=keys,
    )


def origin_of(request: Request) -> Origin:
    """Return the address and the program of the peer."""
    agent = request.headers.get("user-agent", "")[:MAX_USER_AGENT]
    if not agent.isprintable():  # it may be in any encoding, and is only for people
        agent = "".join(each if each.isprintable() else "?" for each in agent)
    return Origin(peer_of(request).address, agent)
