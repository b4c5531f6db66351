"""The certificate of the server, its key and the client authorities, from files that may be replaced at any time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from token_service.errors import ConfigurationError
from token_service.files import read_regular

_MAX_BYTES: Final = 1024 * 1024
"""Maximum size of each file."""

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the server's chain, its key and, to verify client certificates, their authorities."""

    certificate_chain: Path
    private_key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths of all files."""
        paths = (self.certificate_chain, self.private_key)
        return paths if self.client_ca is None else (*paths, self.client_ca)


@dataclass(frozen=True, slots=True)
class TlsContent:
    """The content of `TlsFiles`, checked. The `repr` shows no key."""

    chain: bytes
    key: bytes
    authorities_pem: bytes | None
    authorities: Sequence[x509.Certificate]

    def __repr__(self) -> str:
        return "<TlsContent>"


def server_names(certificate_chain: Path) -> frozenset[str]:
    """Return the DNS names, without wildcards, and the addresses of the certificate of a server.

    Empty for an unusable file: `TlsSource` reports it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(read_regular(certificate_chain, _MAX_BYTES))
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns_names = names.get_values_for_type(x509.DNSName)
        addresses = names.get_values_for_type(x509.IPAddress)
    except (OSError, ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return frozenset()
    return frozenset((*(name.lower() for name in dns_names if "*" not in name), *map(str, addresses)))


def expiry(certificates: Path) -> float | None:
    """Return the time at which the first certificate of a PEM file expires, in seconds since the Unix epoch.

    None for an unusable file: `TlsSource` reports it.
    """
    try:
        found = x509.load_pem_x509_certificates(read_regular(certificates, _MAX_BYTES))
    except (OSError, ValueError):
        return None
    return min(each.not_valid_after_utc for each in found).timestamp()


class TlsSource(Generic[T]):
    """Makes the TLS configuration of a server from its files, and makes it again when they change.

    If changed files are unusable, the last usable ones stay in force and the log has one error. `build` raises
    `ValueError` or `OSError` for content that it refuses.
    """

    def __init__(self, files: TlsFiles, build: Callable[[TlsContent], T]) -> None:
        self._files = files
        self._build = build
        self._seen: tuple[object, ...] | None = None

    def load(self) -> T:
        """Load the files. Raises `ConfigurationError` if they are unusable."""
        self._seen = self._state()
        try:
            return self._build(_read(self._files))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the TLS files can't be used: {_text(error)}") from None

    def changed(self) -> T | None:
        """Return the configuration of files that have changed since the last call; None if they have not."""
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            built = self._build(_read(self._files))
        except (OSError, ValueError) as error:
            logger.error(  # noqa: TRY400
                "the changed TLS files can't be used, the previous ones stay in force: %s", _text(error)
            )
            return None
        logger.info("the TLS files have changed and are used from now on")
        return built

    def _state(self) -> tuple[object, ...]:
        return tuple(map(_stat, self._files.paths))


def _read(files: TlsFiles) -> TlsContent:
    """Read the files and check that they fit together.

    A TLS library may report an unusable pair only when a client fails, so the pair is checked here. During a replacement
    the key and the certificate may not match. Raises `OSError`, `ValueError`.
    """
    chain, key, *rest = (read_regular(path, _MAX_BYTES) for path in files.paths)
    cert_setting = f"{files.certificate_chain} (TOKEN_SERVICE_TLS_CERT_FILE)"
    key_setting = f"{files.private_key} (TOKEN_SERVICE_TLS_KEY_FILE)"
    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        public_key = _public_bytes(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{cert_setting} holds no certificate in PEM that can be used ({error})") from None
    try:
        own_public_key = _public_bytes(load_pem_private_key(key, None).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(
            f"{key_setting} holds no private key in PEM, without a passphrase, that can be used ({error})"
        ) from None
    if own_public_key != public_key:
        raise ValueError(f"the private key in {key_setting} is not that of the certificate in {cert_setting}")
    authorities: Sequence[x509.Certificate] = ()
    if rest:
        try:
            authorities = x509.load_pem_x509_certificates(rest[0])
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(
                f"{files.client_ca} (TOKEN_SERVICE_TLS_CLIENT_CA_FILE) holds no certificates in PEM ({error})"
            ) from None
    _warn_of_dates(certificate, cert_setting)
    return TlsContent(chain, key, rest[0] if rest else None, authorities)


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


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
