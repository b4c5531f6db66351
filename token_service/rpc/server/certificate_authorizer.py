"""Identification of callers by a client certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography import x509

from token_service.certificates.client import (
    CertificateError,
    CertificateNames,
    load_chain,
    names_of,
    require_short,
    vouched_until,
)
from token_service.clock import Clock
from token_service.core.access.authenticator import rights_of_client
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.names import is_spiffe_id, matches
from token_service.core.access.rights import Rights
from token_service.core.clients.client import Client
from token_service.core.clients.uris import is_dns_name
from token_service.errors import CallerUnauthenticatedError
from token_service.rpc.server.authorizer import Peer
from token_service.tokens import base64url

_MAX_KNOWN: Final = 1024
_EXPIRED: Final = "the client certificate has expired; renew it and connect again"


@dataclass(frozen=True, slots=True)
class CertificateCaller(Caller):
    """A caller identified by a client certificate."""

    chain: bytes = b""
    """PEM chain, the leaf first, to identify the caller again after a change."""


class CertificateClients(Protocol):
    """Registered clients that authenticate with a certificate (RFC 8705, section 2.1)."""

    @property
    def certificate_changes(self) -> int:
        """The number of changes of these clients."""
        ...

    def of_certificate(self, names: Iterable[str]) -> Client | None:
        """Return the active client that is registered with one of the names; None if no client or several are."""


class CertificateAuthorizer:
    """Identifies callers by their client certificate: a SPIFFE ID (URI SAN) or a DNS name (DNS SAN).

    A certificate with several names has the rights of all its names. Every call checks that the certificate is
    within its validity period and that a current authority vouches for it; an established connection or TLS session
    grants nothing. An identity in `callers` is compared exactly; an identity that ends in `/*` matches every SPIFFE ID
    below it.
    """

    def __init__(
        self,
        callers: Mapping[str, Rights],
        authorities: Sequence[x509.Certificate],
        clock: Clock,
    ) -> None:
        self._callers = callers
        self._authorities = authorities
        self._clock = clock
        self.clients: CertificateClients | None = None
        """The registered clients that authenticate with a certificate. Set before the first call."""
        self._seen_changes = -1
        self._known: dict[bytes, tuple[CertificateCaller, float] | str] = {}
        """Caller and start of validity by chain, or the reason for refusal."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def callers(self) -> Mapping[str, Rights]:
        """The rights of each identity.

        May be replaced at any time. Later calls and open streams follow the new rights.
        """
        return self._callers

    @callers.setter
    def callers(self, callers: Mapping[str, Rights]) -> None:
        self._callers = callers
        self._changed()

    @property
    def authorities(self) -> Sequence[x509.Certificate]:
        """The accepted certificate authorities. May be replaced like `callers`."""
        return self._authorities

    @authorities.setter
    def authorities(self, authorities: Sequence[x509.Certificate]) -> None:
        self._authorities = authorities
        self._changed()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever callers or authorities are replaced."""
        self._listeners.append(listener)

    def rights(self, caller: Caller) -> Rights:
        """Return the current rights of an identified caller; none if its certificate is no longer accepted."""
        if not isinstance(caller, CertificateCaller):
            return Rights()
        try:
            return self._identified(caller.chain).rights
        except CallerUnauthenticatedError:
            return Rights()

    def expire_time(self, caller: Caller) -> float:
        """Return when the certificate, or the last authority that vouches for it, expires."""
        if not isinstance(caller, CertificateCaller):
            return caller.expire_time
        try:
            return self._identified(caller.chain).expire_time
        except CallerUnauthenticatedError:
            return caller.expire_time

    def identify(self, peer: Peer) -> Caller:
        """Return the caller that the peer's certificate names.

        Raises `CallerUnauthenticatedError` if the certificate is missing, not valid now, or unknown.
        """
        properties = peer.auth_context()
        # gRPC's `x509_pem_cert_chain` holds the certificates after the leaf.
        chain = b"".join((*properties.get("x509_pem_cert", ()), *properties.get("x509_pem_cert_chain", ())))
        if not chain:
            raise CallerUnauthenticatedError(
                "a client certificate with a SPIFFE ID or a DNS name is required"
            )
        try:
            require_short(chain)  # before it is cached, even as refused
        except CertificateError as error:
            raise CallerUnauthenticatedError(str(error)) from None
        return self._identified(chain)

    def _identified(self, chain: bytes) -> CertificateCaller:
        known = self._known.get(chain)
        if known is None:
            try:
                known = self._look_up(chain)
            except CertificateError as error:
                known = str(error)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[chain] = known
        if isinstance(known, str):
            raise CallerUnauthenticatedError(known)
        caller, begins = known
        now = self._clock.now()
        if now >= caller.expire_time:
            raise CallerUnauthenticatedError(_EXPIRED)
        if now < begins:
            raise CallerUnauthenticatedError("the client certificate is not valid yet")
        return caller

    def _look_up(self, pem: bytes) -> tuple[CertificateCaller, float]:
        """Return the caller and the start of validity. Raises `CertificateError` if no name is a known caller."""
        chain = load_chain(pem)
        expire_time = vouched_until(chain, self._authorities)
        if expire_time is None:
            raise CertificateError("the authority of the client certificate is not accepted any more")
        names = _valid(names_of(chain[0]))
        found = {name: several for name in names if (several := matches(self._callers, name))}
        client = None if self.clients is None else self.clients.of_certificate(names)
        if client is not None:
            found[f"client:{client.client_id}"] = [rights_of_client(client)]
        if not found:
            raise CertificateError("the names in the client certificate are not known here")
        caller = CertificateCaller(
            ", ".join(found),
            Rights.joined(rights for several in found.values() for rights in several),
            Proof.CERTIFICATE,
            _identity(names),
            client_id="" if client is None else client.client_id,
            expire_time=expire_time,
            chain=pem,
        )
        return caller, chain[0].not_valid_before_utc.timestamp()

    def clients_changed(self) -> None:
        """Forget who callers are if a registered client that authenticates with a certificate has changed.

        Other clients change often, and checking the chains of 1,000 streams again blocks the event loop for 0.2 seconds.
        Tells no listener.
        """
        if self.clients is not None and self.clients.certificate_changes != self._seen_changes:
            self._seen_changes = self.clients.certificate_changes
            self._known = {}

    def _changed(self) -> None:
        self._known = {}
        for listener in self._listeners:
            listener()


def _valid(names: CertificateNames) -> list[str]:
    if names.spiffe_id is not None and not is_spiffe_id(names.spiffe_id):
        raise CertificateError("the URI in the client certificate is not a valid SPIFFE ID")
    if not all(map(is_dns_name, names.dns_names)):
        raise CertificateError("a DNS name in the client certificate is not a valid one")
    valid = [*([names.spiffe_id] if names.spiffe_id is not None else []), *names.dns_names]
    if not valid:
        raise CertificateError("the client certificate has neither a SPIFFE ID nor a DNS name")
    return valid


def _identity(names: Iterable[str]) -> str:
    """Return a digest of all names of a certificate, in any order. A renewed certificate keeps it."""
    return base64url.encode(hashlib.sha256(repr(sorted(set(names))).encode()).digest())
