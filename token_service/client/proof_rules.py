"""How an HTTP service checks that the sender of a token has the key that the token is bound to."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from token_service.errors import ConfigurationError
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.http_uri import normalized
from token_service.tokens.possession import MAX_PROOF_AGE
from token_service.tokens.secret import Secret

UNIX: Final = "unix"
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRules:
    """How DPoP proofs (RFC 9449) and client certificates (RFC 8705) of requests are checked.

    Without any setting, tokens that are bound to a client certificate are accepted over a TLS connection that this
    process serves itself, and tokens that are bound to a DPoP key are refused.
    """

    origins: Collection[str] = ()
    """The origins by which clients know the service, e.g. `https://api.example`. A DPoP proof must be for one of them."""
    trusted_proxies: Collection[str] = ()
    """The addresses and networks of the proxies in front of the service, e.g. `10.0.0.0/8`; `unix`: unix sockets.

    The server must tell the address of the connection: start uvicorn with `--no-proxy-headers`.
    """
    forwarded_origin: bool = False
    """Believe `X-Forwarded-Proto` and `X-Forwarded-Host` of trusted proxies where `origins` is empty.

    The proxies must replace both in the requests of their clients.
    """
    client_cert: bool = False
    """Believe `Client-Cert` (RFC 9440) of trusted proxies. They must remove it from the requests of their clients."""
    nonce_keys: Sequence[Secret] = ()
    """Keys of at least 32 bytes, the same in all processes of the service: proofs need a nonce; empty: they need none.

    The first key makes nonces, and all keys accept them.
    """
    max_age: float = MAX_PROOF_AGE
    """The longest age of a DPoP proof, in seconds."""

    def __post_init__(self) -> None:
        for name in ("origins", "trusted_proxies"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} must be a collection of texts, not one text")
        object.__setattr__(self, "origins", tuple(_origin(each) for each in self.origins))
        for proxy in self.trusted_proxies:
            _networks((proxy,))
        if (self.client_cert or self.forwarded_origin) and not self.trusted_proxies:
            raise ConfigurationError(
                "client_cert and forwarded_origin believe headers of proxies; set trusted_proxies, too"
            )
        if self.nonce_keys and not self.accepts_dpop:
            raise ConfigurationError("nonce_keys need DPoP proofs; set origins or forwarded_origin, too")
        if not 1 <= self.max_age <= 600:
            raise ConfigurationError(f"max_age is {self.max_age}; it must be between 1 and 600 seconds")
        nonces_of(self)

    @property
    def accepts_dpop(self) -> bool:
        """Whether DPoP proofs can be checked, because the URI of requests is known."""
        return bool(self.origins) or self.forwarded_origin

    def trusts(self, address: str) -> bool:
        """Return whether a connection from this address is that of a trusted proxy; empty: it has no address."""
        return bool(self.trusted_proxies) and _trusts(tuple(self.trusted_proxies), address)


def nonces_of(rules: ProofRules) -> DpopNonces | None:
    """Return the nonces that proofs need; None: they need none. Raises `ConfigurationError` for a short key."""
    if not rules.nonce_keys:
        return None
    try:
        return DpopNonces(rules.nonce_keys)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


def _origin(text: str) -> str:
    try:
        uri = normalized(text)
    except ValueError:
        uri = ""
    if not uri or uri.count("/") != 3 or not uri.endswith("/") or set(text) & set("?#"):
        raise ConfigurationError(f"the origin {text!r} must be like https://api.example, without a path")
    return uri[:-1]


@lru_cache(maxsize=64)
def _networks(texts: tuple[str, ...]) -> tuple[_Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text) for text in texts if text != UNIX)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies: {error}") from None


@lru_cache(maxsize=4096)
def _trusts(texts: tuple[str, ...], address: str) -> bool:
    if not address:
        return UNIX in texts
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in _networks(texts))
