"""TLS of the gRPC edge, with certificates that may be replaced while it runs."""

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
    """PEM files: the server's chain, its key and, to require client certificates, the authorities that sign
    them.
    """

    certificate_chain: Path
    private_key: Path
    client_ca: Path | None = None


class ReloadingCredentials:
    """Server credentials that look at their files whenever a client connects, and take up what has changed.

    Files that can't be used leave the last good ones in force, and say so once in the log.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: tuple[object, ...] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials. TLS 1.2 or later. Raises `ConfigurationError` if the files can't be used now."""
        self._seen = self._state()
        initial = self.load()
        return grpc.dynamic_ssl_server_credentials(
            initial,
            self._fetch,  # type: ignore[arg-type]  # None means no change, as its documentation says
            require_client_authentication=self._files.client_ca is not None,
        )

    def load(self) -> grpc.ServerCertificateConfiguration:
        """What is in the files now. Raises `ConfigurationError` if they can't be used."""
        try:
            return self._load()
        except _UNUSABLE as error:
            raise ConfigurationError(f"the TLS files can't be used: {_text(error)}") from None

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """The configuration if it has changed. Called by gRPC, on its own threads, before each handshake."""
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
        # gRPC says nothing of a pair it can't use until a client fails, so it is looked at here; in the
        # middle of a replacement key and certificate do not match.
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
"""Of each file."""
_UNUSABLE: Final = (OSError, ValueError)


def _text(error: Exception) -> str:
    return f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)


def _warn_of_dates(certificate: x509.Certificate, where: str) -> None:
    """Not an error: a node that starts before the renewed file is there takes it up when it comes."""
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
