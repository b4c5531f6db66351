"""The peer of a request: its address, its certificate, and whether it used TLS.

Only this module decides who the peer is. Behind a trusted proxy it is the client of the proxy.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from starlette.requests import Request

from token_service.errors import InvalidRequestError
from token_service.web import forwarded

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_KEY: Final = "token_service.peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """The peer of a request."""

    address: str
    """Empty: unknown."""
    is_secure: bool
    """Whether the client used TLS: to this process, or to a trusted proxy that says so."""
    chain: bytes = field(default=b"", repr=False)
    """The certificate of the client and its issuers as the client sent them, PEM; empty without a certificate.

    The handshake may be long ago, and a proxy may have other authorities: verify the chain before each use.
    """

    @property
    def certificate(self) -> x509.Certificate | None:
        """The certificate of the client; None without one."""
        return x509.load_pem_x509_certificate(self.chain) if self.chain else None


class ProxyHeader(StrEnum):
    """The headers in which trusted proxies tell about their client.

    One of the two, because a proxy passes on the other one as its client has sent it.
    """

    X_FORWARDED = "x-forwarded"
    """`X-Forwarded-For` and `X-Forwarded-Proto`."""
    FORWARDED = "forwarded"
    """`Forwarded` (RFC 7239)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedProxies:
    """The proxies whose headers are believed. By default there are none."""

    networks: tuple[Network, ...] = ()
    header: ProxyHeader = ProxyHeader.X_FORWARDED
    client_cert: bool = False
    """Whether `Client-Cert` is believed. The proxies must remove it from the requests of their clients."""

    def trust(self, address: str) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        if not self.networks or not address:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self.networks)


class Peers:
    """Decides who the peers of requests are."""

    def __init__(self, proxies: TrustedProxies | None = None, *, require_tls: bool = False) -> None:
        """`require_tls`: admit only peers that used TLS."""
        self._proxies = proxies or TrustedProxies()
        self._require_tls = require_tls

    def admit(self, request: Request) -> Peer:
        """Find out who the peer of a request is; `peer_of` returns it.

        Raises `InvalidRequestError` for malformed headers of a trusted proxy, for a peer that must use TLS and does not, and
        for one that has reset its connection.
        """
        peer = self._find(request)
        if self._require_tls and not peer.is_secure:
            raise InvalidRequestError.of(
                "scheme",
                "must be https: use the https URL of the endpoint. Behind a proxy, its address must be in "
                "TOKEN_SERVICE_TRUSTED_PROXIES and it must tell that its client used TLS",
            )
        request.scope[_KEY] = peer
        return peer

    def _find(self, request: Request) -> Peer:
        scope, headers, proxies = request.scope, request.headers, self._proxies
        server = scope.get("server")
        if request.client is None and server is not None and server[1] is not None:
            # The system has forgotten the address, so no rate would count the request. A unix socket has no port.
            raise InvalidRequestError.of("connection", "was reset before its request was read")
        address = _address(request)
        if not proxies.trust(address):
            tls = scope.get("extensions", {}).get("tls")
            chain = b"" if tls is None else "".join(tls["client_cert_chain"]).encode()
            return Peer(address, scope["scheme"] == "https", chain)
        # The connection is that of the proxy. Its scheme and its certificate say nothing about the client.
        if proxies.header is ProxyHeader.FORWARDED:
            address, is_secure = self._forwarded(address, request)
        else:
            nodes = forwarded.values_of(headers, forwarded.X_FORWARDED_FOR)
            address = self._client(address, nodes, forwarded.X_FORWARDED_FOR)[0]
            # The list may begin with values of the client, so a single http makes the request insecure.
            schemes = forwarded.values_of(headers, forwarded.X_FORWARDED_PROTO)
            is_secure = forwarded.is_https(schemes, forwarded.X_FORWARDED_PROTO)
        return Peer(address, is_secure, forwarded.client_chain(headers) if proxies.client_cert else b"")

    def _forwarded(self, address: str, request: Request) -> tuple[str, bool]:
        elements = forwarded.forwarded_elements(request.headers)
        nodes = [element.get("for", "") for element in elements]
        address, index = self._client(address, nodes, forwarded.FORWARDED)
        schemes = [elements[index]["proto"]] if elements and "proto" in elements[index] else []
        return address, forwarded.is_https(schemes, forwarded.FORWARDED)

    def _client(self, address: str, nodes: list[str], header: str) -> tuple[str, int]:
        """Return the rightmost address that is no trusted proxy, else the leftmost one, and its index.

        Each proxy adds the address of its client at the right end. Everything left of the first client that is not
        trusted is the word of that client, and is not even parsed.
        """
        index = 0
        for index in reversed(range(len(nodes))):
            address = forwarded.parse_node(nodes[index], header)
            if not self._proxies.trust(address):
                break
        return address, index


def peer_of(request: Request) -> Peer:
    """Return the peer of a request that the HTTP edge has admitted."""
    peer: Peer = request.scope[_KEY]
    return peer


def _address(request: Request) -> str:
    client = request.client
    return "" if client is None else _canonical(client.host)


@lru_cache(maxsize=4096)  # a sixth of the time of an introspection
def _canonical(host: str) -> str:
    try:
        return forwarded.canonical(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:  # a unix socket has no address
        return ""
