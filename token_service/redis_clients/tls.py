"""TLS to Redis: the authorities of the servers, and the certificate of this client."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from token_service.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RedisTls:
    """PEM files. They are read for each connection, so a renewed certificate needs no restart."""

    ca_file: Path | None = None
    """The authorities of the servers; None: those of the machine."""
    cert_file: Path | None = None
    """The certificate chain of this client."""
    key_file: Path | None = None

    def __bool__(self) -> bool:
        return self != RedisTls()

    def context(self) -> ssl.SSLContext:
        """Read the files. Raises `ConfigurationError`."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"the authorities of Redis in {self.ca_file} can't be used ({_problem(error)}); "
                "write the certificate of the authority that signs the servers there (PEM)"
            ) from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"the client certificate for Redis in {self.cert_file} and its key in {self.key_file} can't be used "
                    f"({_problem(error)}); write a certificate and its unencrypted private key there (PEM)"
                ) from None
        return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # otherwise OpenSSL asks the terminal


def _problem(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason.lower().replace("_", " ") if error.reason else "not PEM"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
