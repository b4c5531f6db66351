"""TLS of the gRPC server, with certificates that may be replaced while it runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from token_service.errors import ConfigurationError
from token_service.files import read_regular

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain, its key and, to require client certificates, their authorities."""

    certificate_chain: Path
    private_key: Path
    client_ca: Path | None = None


class ReloadingCredentials:
    """Server credentials that check their files whenever a client connects, and reload changed files.

    If changed files are unusable, the last usable ones stay in force and the log has one error.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: tuple[object, ...] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Create credentials for TLS 1.2 or later. Raises `ConfigurationError` if the files are unusable."""
        self._seen = self._state()
        initial = self.load()
        return grpc.dynamic_ssl_server_credentials(
            initial,
            self._fetch,  # type: ignore[arg-type]  # None means no change (gRPC documentation)
            require_client_authentication=self._files.client_ca is not None,
        )

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Load the files. Raises `ConfigurationError` if they are unusable."""
        try:
            return self._load()
        except _UNUSABLE as error:
            raise ConfigurationError(f"the TLS files can't be used: {_text(error)}") from None

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the configuration if it has changed. gRPC calls this on its own threads, before each handshake."""
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            configuration = self._load()
        except _UNUSABLE as error:
            logger.error(  # noqa: TRY400
                "the changed TLS files can't be used, the previous ones stay in force: %s", _text(error)
            )
            return None
        logger.info("the TLS files have changed and are used from now on")
        return configuration

    def _state(self) -> tuple[object, ...]:
        return tuple(_stat(path) for path in self._paths())

    def _paths(self) -> tuple[Path, ...]:
        files = self._files
        paths = (files.certificate_chain, files.private_key)
        return paths if files.client_ca is None else (*paths, files.client_ca)

    def _load(self) -> grpc.ServerCertificateConfiguration:
        chain, key, *authorities = (read_regular(path, _MAX_BYTES) for path in self._paths())
        # gRPC reports an unusable pair only when a client fails, so the pair is checked here. During a replacement the
        # key and the certificate may not match.
        files = self._files
        cert_setting = f"{files.certificate_chain} (TOKEN_SERVICE_TLS_CERT_FILE)"
        key_setting = f"{files.private_key} (TOKEN_SERVICE_TLS_KEY_FILE)"
        try:
            certificate = x509.load_pem_x509_certificates(chain)[0]
            public_key = _public_bytes(certificate.public_key())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(
                f"{cert_setting} holds no certificate in PEM that can be used ({error})"
            ) from None
        try:
            own_public_key = _public_bytes(load_pem_private_key(key, None).public_key())
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(
                f"{key_setting} holds no private key in PEM, without a passphrase, that can be used ({error})"
            ) from None
        if own_public_key != public_key:
            raise ValueError(
                f"the private key in {key_setting} is not that of the certificate in {cert_setting}"
            )
        for authority in authorities:
            try:
                x509.load_pem_x509_certificates(authority)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise ValueError(
                    f"{files.client_ca} (TOKEN_SERVICE_TLS_CLIENT_CA_FILE) holds no certificates in PEM ({error})"
                ) from None
        _warn_of_dates(certificate, cert_setting)
        return grpc.ssl_server_certificate_configuration([(key, chain)], *authorities)


_MAX_BYTES: Final = 1024 * 1024
"""Maximum size of each file."""
_UNUSABLE: Final = (OSError, ValueError)


def _text(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _warn_of_dates(certificate: x509.Certificate, where: str) -> None:
    """Warn about dates. An error would be too strict: a node may start before the renewed file, and loads it later."""
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        logger.warning(
            "the certificate in %s expired at %s: clients refuse it; renew it",
            where,
            certificate.not_valid_after_utc,
        )
    elif now < certificate.not_valid_before_utc:
        logger.warning(
            "the certificate in %s is valid only from %s on: clients refuse it; look at the clock of this machine",
            where,
            certificate.not_valid_before_utc,
        )


_MISSING: Final = object()


def _stat(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return _MISSING
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
