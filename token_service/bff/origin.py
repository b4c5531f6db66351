"""The rule against cross-site request forgery.

A cookie goes with requests that other sites cause; `SameSite` prevents most of them, but not those of other hosts of
the same site, such as a forgotten subdomain. So a request that may change something must come from the application's
own origin. The browser says so in headers that scripts can't set:

1. Unsafe are all methods but GET, HEAD and OPTIONS, and the handshake of a WebSocket.
2. An unsafe request must not have a `Sec-Fetch-Site` other than `same-origin`.
3. It must not have an `Origin` other than the application's. `null` counts as none, because browsers send it with the
   forms of a page that has `Referrer-Policy: no-referrer`.
4. It must have one of both. A WebSocket must have `Origin`.
5. If the configuration names a header, an unsafe HTTP request must have it.
"""

from __future__ import annotations

from typing import Final

from token_service.bff.exchange import BadRequestError, Scope, header

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def refusal(scope: Scope, origin: str, csrf_header: str | None) -> str | None:
    """Return why a request is refused; None for a safe one and for one of `origin` itself."""
    is_websocket = scope["type"] == "websocket"
    if not is_websocket and scope["method"] in _SAFE:
        return None
    try:
        said = header(scope, b"origin")
        site = header(scope, b"sec-fetch-site")
        custom = header(scope, csrf_header.encode()) if csrf_header is not None else ""
    except BadRequestError as error:
        return str(error)
    if site not in {None, "same-origin"}:
        return "the request comes from another site or another origin"
    if said not in {None, "null", origin}:
        return "the request comes from another origin"
    if said != origin and (site is None or is_websocket):
        return "the request has neither the Origin of the application nor Sec-Fetch-Site"
    if custom is None and not is_websocket:
        return f"the request has no {csrf_header} header"
    return None


def is_foreign(scope: Scope) -> bool:
    """Return whether the browser says that a safe request was caused by another origin, but not by its user."""
    return header(scope, b"sec-fetch-site") not in {None, "same-origin", "none"}
