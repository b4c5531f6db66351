"""What a request must prove before the console looks at it: its host, its origin, and that its form is one of ours."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from token_service.core.keys.sealer import Sealer
from token_service.errors import InvalidRequestError, PermissionDeniedError
from token_service.tokens.opaque_token import OpaqueTokenError
from token_service.web.oauth.parameters import Parameters
from token_service.web.peer import peer_of

FORM_TOKEN: Final = "form_token"
"""The hidden field of forms."""
FORM_TOKEN_HEADER: Final = "x-form-token"
"""The header of requests by htmx."""
_OF_PROXIES: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "via",
    "cf-connecting-ip",
)
"""Headers that proxies and tunnels add to requests."""
_FOREIGN: Final = "the request was not sent by a page of this console, so nothing was changed; "


class FormTokens:
    """Tokens in the forms of the console. Each is tied to the login of an operator, and differs on every page."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def new(self, session: str) -> str:
        """Return a token for the forms of a login."""
        return self._sealer.seal(session.encode())

    async def check(self, request: Request, form: Parameters, session: str) -> None:
        """Raise `PermissionDeniedError` unless a request has a token of this login."""
        token = form.get(FORM_TOKEN) or request.headers.get(FORM_TOKEN_HEADER, "")
        try:
            if not token or await self._sealer.open(token) != session.encode():
                raise PermissionDeniedError(f"{_FOREIGN}load the page again and send its form")
        except OpaqueTokenError:
            raise PermissionDeniedError(f"{_FOREIGN}load the page again and send its form") from None


def require_same_origin(request: Request, origin: str) -> None:
    """Raise `PermissionDeniedError` unless the browser says that a page of this origin sent a request.

    `origin` is `scheme://host[:port]`. `Sec-Fetch-Site` and `Origin` can't be set by pages; one of them must be there, and
    none may say otherwise.
    """
    site, sent = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if (site is None and sent is None) or site not in {None, "same-origin"} or sent not in {None, origin}:
        raise PermissionDeniedError(f"{_FOREIGN}open the console at {origin} and send the form there")


def origin_of_host(request: Request) -> str:
    """Return the origin that a browser asked, by its `Host`."""
    return f"{request.scope['scheme']}://{request.headers.get('host', '')}"


def require_loopback_host(request: Request) -> None:
    """Raise `InvalidRequestError` unless the browser asked for a name of this machine.

    The name of another site can be made to lead to this machine (DNS rebinding). Its pages would have the same origin.
    """
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _is_loopback(hosts[0]):
        raise InvalidRequestError.of(
            "host", "must be localhost or a loopback address, because the console is open without a login"
        )


def require_this_machine(request: Request) -> None:
    """Raise `PermissionDeniedError` for a request from another machine, also if a proxy or a tunnel here passed it on."""
    address = peer_of(request).address  # empty: a unix socket
    header = next((name for name in _OF_PROXIES if name in request.headers), None)
    if header is not None:
        why = f"it has the header {header} of a proxy"
    elif request.scope.get("http_version") == "1.0":  # nginx by default, without any header
        why = "it is of HTTP/1.0, which proxies speak and browsers do not"
    elif address and not ipaddress.ip_address(address).is_loopback:
        why = f"it came from {address}"
    else:
        return
    raise PermissionDeniedError(
        f"the console is open without a login, so it answers to browsers on this machine only, and this request is refused: {why}; "
        "set TOKEN_SERVICE_CONSOLE_CLIENT_ID to let operators log in, see docs/console.md"
    )


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost":
            return True
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
