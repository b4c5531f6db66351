"""The conversion of HTTP requests to what use cases take."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from token_service.core.events.event import Origin
from token_service.core.grants.commands import GrantRequest
from token_service.core.limits import MAX_USER_AGENT
from token_service.errors import InvalidRequestError
from token_service.web.oauth.parameters import Parameters, parse_form
from token_service.web.peer import peer_of

MAX_QUERY: Final = 12 * 1024
"""Characters of the query of a request of a browser."""
_REPEATABLE: Final = frozenset({"resource"})


def grant_request(request: Request, parameters: Parameters) -> GrantRequest:
    """Return what every grant has in common: scopes, audience and origin."""
    return GrantRequest(
        scopes=parameters.words("scope"),
        audience=tuple(dict.fromkeys((*parameters.all("resource"), *parameters.all("audience")))),
        origin=Origin(peer_of(request).address, request.headers.get("user-agent", "")[:MAX_USER_AGENT]),
    )


def query_of(request: Request) -> Parameters:
    """Return the parameters in the URL of a browser. Raises `InvalidRequestError`."""
    query = request.url.query
    if len(query) > MAX_QUERY:
        raise InvalidRequestError.of("query", f"is longer than {MAX_QUERY} characters; push the request")
    return parse_form(query.encode("utf-8", "replace"), _REPEATABLE)
