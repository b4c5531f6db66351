"""Client certificates: the port that verifies them, the same for every edge, and the registered clients they name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from token_service.core.clients.client import Client


@dataclass(frozen=True, slots=True)
class CertifiedNames:
    """The names in a client certificate that a current authority vouches for. Times are in seconds since the Unix epoch."""

    names: tuple[str, ...]
    """SPIFFE ID and DNS names, each of valid syntax and at least one."""
    begin_time: float
    expire_time: float
    """When the certificate, or the last authority that vouches for it, expires."""


class ClientCertificates(Protocol):
    """Verifies the certificates of clients."""

    def verify(self, chain: bytes) -> CertifiedNames:
        """Return the names in a certificate that is valid now. `chain` is PEM, the certificate first.

        Raises `CallerUnauthenticatedError` if it is missing, not valid now, ambiguous, or of another authority.
        """
        ...


class CertificateClients(Protocol):
    """Registered clients that authenticate with a certificate (RFC 8705, section 2.1)."""

    @property
    def certificate_changes(self) -> int:
        """The number of changes of these clients."""
        ...

    def of_certificate(self, names: Iterable[str]) -> Client | None:
        """Return the active client that is registered with one of the names; None if no client or several are."""


class CertifiedClients:
    """Finds the registered client that a certificate names."""

    def __init__(self, certificates: ClientCertificates, clients: CertificateClients) -> None:
        self._certificates = certificates
        self._clients = clients

    def client_of(self, chain: bytes) -> tuple[Client | None, float]:
        """Return the client, or None if no client or several have one of its names, and when the certificate expires.

        Raises `CallerUnauthenticatedError` for a certificate that is not acceptable now.
        """
        certified = self._certificates.verify(chain)
        return self._clients.of_certificate(certified.names), certified.expire_time
