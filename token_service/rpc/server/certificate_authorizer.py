"""Identification of callers by a client certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from token_service.certificates.client import thumbprint_of
from token_service.certificates.verification import CertificateVerifier
from token_service.core.access.authenticator import rights_of_client
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.certificates import CertificateClients, CertifiedNames
from token_service.core.access.names import matches
from token_service.core.access.rights import Rights
from token_service.errors import CallerUnauthenticatedError
from token_service.rpc.server.authorizer import Identify, Peer
from token_service.tokens import base64url

_MAX_KNOWN: Final = 1024


@dataclass(frozen=True, slots=True)
class CertificateCaller(Caller):
    """A caller identified by a client certificate."""

    chain: bytes = b""
    """PEM chain, the leaf first, to identify the caller again after a change."""


class CertificateAuthorizer:
    """Identifies callers by their client certificate: a SPIFFE ID (URI SAN) or a DNS name (DNS SAN).

    A certificate with several names has the rights of all its names. An identity in `callers` is compared exactly; an
    identity that ends in `/*` matches every SPIFFE ID below it.
    """

    def __init__(self, callers: Mapping[str, Rights], certificates: CertificateVerifier) -> None:
        self._callers = callers
        self._certificates = certificates
        self._certificates.on_change(self._changed)
        self.clients: CertificateClients | None = None
        """The registered clients that authenticate with a certificate. Set before the first call."""
        self._seen_changes = -1
        self._known: dict[bytes, CertificateCaller | None] = {}
        """Caller by chain; None: unknown."""
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

    def identifier(self, method: str) -> Identify:
        """See `Authorizer.identifier`."""
        return self.identify

    def identify(self, peer: Peer) -> Caller:
        """Return the caller that the peer's certificate names.

        Raises `CallerUnauthenticatedError` if the certificate is missing, not valid now, or unknown.
        """
        properties = peer.auth_context()
        # gRPC's `x509_pem_cert_chain` holds the certificates after the leaf.
        return self._identified(
            b"".join((*properties.get("x509_pem_cert", ()), *properties.get("x509_pem_cert_chain", ())))
        )

    def _identified(self, chain: bytes) -> CertificateCaller:
        certified = self._certificates.verify(chain)
        try:
            caller = self._known[chain]
        except KeyError:
            caller = self._look_up(chain, certified)
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[chain] = caller
        if caller is None:
            raise CallerUnauthenticatedError("the names in the client certificate are not known here")
        return caller

    def _look_up(self, chain: bytes, certified: CertifiedNames) -> CertificateCaller | None:
        """Return the caller; None if no name is a known caller."""
        names = certified.names
        found = {name: several for name in names if (several := matches(self._callers, name))}
        client = None if self.clients is None else self.clients.of_certificate(names)
        if client is not None:
            found[f"client:{client.client_id}"] = [rights_of_client(client)]
        if not found:
            return None
        return CertificateCaller(
            ", ".join(found),
            Rights.joined(rights for several in found.values() for rights in several),
            Proof.CERTIFICATE,
            _identity(names),
            client_id="" if client is None else client.client_id,
            expire_time=certified.expire_time,
            chain=chain,
            certificate_thumbprint=thumbprint_of(chain),
        )

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


def _identity(names: Iterable[str]) -> str:
    """Return a digest of all names of a certificate, in any order. A renewed certificate keeps it."""
    return base64url.encode(hashlib.sha256(repr(sorted(set(names))).encode()).digest())
