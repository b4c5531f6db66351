"""The origin of a browser, as the token endpoint learns of it: the application is a proxy between the two."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from types import MappingProxyType
from typing import Final

from token_service.bff.config import Provider
from token_service.bff.exchange import Scope, header

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
_MAX_USER_AGENT: Final = 512


def origin_headers(scope: Scope, provider: Provider) -> Mapping[str, str]:
    """Return the headers that tell where the browser of a request is; none unless `Provider.tells_origin` is set.

    The address is that of the connection. Behind a proxy the server must be set up to replace it by that of the browser.
    """
    if not provider.tells_origin:
        return NO_HEADERS
    headers = {}
    client = scope.get("client")
    with suppress(ValueError):  # a unix socket has no address
        headers["X-Forwarded-For"] = str(ip_address(client[0] if client else ""))
    agent = header(scope, b"user-agent") or ""
    if agent and agent.isascii() and agent.isprintable():
        headers["User-Agent"] = agent[:_MAX_USER_AGENT]
    return headers
