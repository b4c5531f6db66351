"""The URLs and addresses that a fetch may reach.

A client or an issuer chooses the URL. Without these rules it could make the node send requests to services that only
the node can reach.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from token_service.fetching.failure import FetchError
from token_service.urls import UnusableValueError, split_url

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MAX_URL: Final = 2048
_URL: Final = re.compile(r"[!-~]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")
_PORTS: Final = {"https": 443, "http": 80}

_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
"""The only block of global unicast addresses (RFC 4291, section 2.4)."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses seen through a translator (RFC 6052)."""
# Versions of `ipaddress` differ in these (IANA special-purpose address registries).
_NOT_GLOBAL: Final = (
    ipaddress.ip_network("192.0.0.0/24"),
    ipaddress.ip_network("192.88.99.0/24"),
    ipaddress.ip_network("2001::/23"),
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("3fff::/20"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL that a fetch needs."""

    is_tls: bool
    host: str
    """A name or an address without brackets, in lower case."""
    port: int
    authority: str
    """Host and port as in the header `Host`."""
    path: str
    """The request target: path and query."""

    @classmethod
    def parse(cls, url: str, *, allow_private: bool = False) -> Target:
        """Parse the URL of a key set or of a discovery document.

        The scheme is `https`, or with `allow_private` also `http`, which then reaches only loopback addresses. Raises
        `UnusableValueError`, whose message does not repeat the URL.
        """
        if len(url) > _MAX_URL or not _URL.fullmatch(url) or "\\" in url:
            raise UnusableValueError(f"not a URL of at most {_MAX_URL} printable ASCII characters")
        try:
            parts = split_url(url)
        except UnusableValueError:
            raise
        except ValueError:
            raise UnusableValueError("not a URL") from None
        if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
            raise UnusableValueError("the scheme is not https")
        if "@" in parts.netloc:
            raise UnusableValueError("it has a user name or a password")
        host = parts.hostname or ""
        if not _HOST.fullmatch(host) or parts.port == 0:
            raise UnusableValueError("it has no usable host and port")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        port = parts.port or _PORTS[parts.scheme]
        return cls(parts.scheme == "https", host, port, parts.netloc.lower(), path)


def permitted(target: Target, texts: Iterable[str], *, allow_private: bool) -> list[Address]:
    """Return the addresses of a host if a fetch may reach all of them.

    One forbidden address forbids the host: an attacker who adds his own address to an internal one gains nothing. Raises
    `FetchError`.
    """
    try:
        addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
    except ValueError:
        raise FetchError(f"{target.host} has an address of an unknown kind") from None
    if not addresses:
        raise FetchError(f"{target.host} has no address")
    for address in addresses:
        if not target.is_tls and not address.is_loopback:
            raise FetchError(f"{target.host} is {address}, and http is allowed only for loopback addresses")
        if address.is_multicast or address.is_unspecified:
            raise FetchError(f"{target.host} is {address}, which is not the address of one host")
        if not allow_private and not is_global(address):
            raise FetchError(f"{target.host} is {address}, which is not a global address")
    return addresses


def is_global(address: Address) -> bool:
    """Return whether an address belongs to a host of the public Internet.

    False for loopback, private, shared, link-local, multicast, unspecified and reserved addresses, and for IPv6 addresses
    that contain an IPv4 address, except those of a translator to a global IPv4 address.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_global(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_V6:
            return False
    return address.is_global and not address.is_multicast and not any(address in net for net in _NOT_GLOBAL)
