"""TLS credentials that are replaced while a validator runs, such as short-lived client certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from token_service.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsCredentials:
    """Credentials of one connection, all in PEM.

    Raises `ConfigurationError` for unusable credentials, e.g. while the key is already replaced but its certificate is
    not.
    """

    roots: bytes | None = None
    """Certificate authorities trusted for the service's certificate. None: the authorities of the system."""
    certificate_chain: bytes | None = None
    """The client certificate, followed by its intermediate authorities. None: no client certificate."""
    private_key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ConfigurationError(
                "TlsCredentials needs both certificate_chain and private_key, or neither"
            )
        try:
            self._require_usable()
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"the TLS credentials can't be used: {error}") from None

    def _require_usable(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if self.roots is not None:
            x509.load_pem_x509_certificates(self.roots)
        if self.certificate_chain is not None and self.private_key is not None:
            certificate = x509.load_pem_x509_certificates(self.certificate_chain)[0]
            if load_pem_private_key(self.private_key, None).public_key() != certificate.public_key():
                raise ValueError("the private key does not belong to the certificate")

    def for_grpc(self) -> grpc.ChannelCredentials:
        """Return the credentials as gRPC channel credentials."""
        return grpc.ssl_channel_credentials(self.roots, self.private_key, self.certificate_chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFiles:
    """Function object that reads `TlsCredentials` from PEM files."""

    roots: Path | None = None
    certificate_chain: Path | None = None
    private_key: Path | None = None

    def __call__(self) -> TlsCredentials:
        """Read the files. Raises `OSError` or `ConfigurationError`."""
        return TlsCredentials(
            roots=_read(self.roots),
            certificate_chain=_read(self.certificate_chain),
            private_key=_read(self.private_key),
        )


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
