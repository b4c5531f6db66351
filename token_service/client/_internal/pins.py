"""Pins: the authorities and the identity that the token service's certificate must have."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Collection
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from token_service.errors import ConfigurationError

_PIN: Final = re.compile(r"sha256/[A-Za-z0-9+/]{43}=")
_SPIFFE_ID: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+")
_MAX_SPIFFE_ID: Final = 2048


def spki_pin(certificate: bytes) -> str:
    """Return the pin of a certificate in PEM: `sha256/` and the base64 of the SHA-256 of its public key (SPKI).

    The pin outlives the certificate: a renewed certificate of the same key has the same pin. Raises `ValueError`.
    """
    return _pin(x509.load_pem_x509_certificate(certificate))


def pinned_roots(roots: bytes | None, pins: Collection[str]) -> bytes:
    """Return the certificates among `roots` whose key is pinned, in PEM. Raises `ConfigurationError` if none is."""
    if roots is None:
        raise ConfigurationError(
            "ServiceIssuer.pins and spiffe_id need own roots in the credentials: the authorities of the system are not "
            "used with them"
        )
    certificates = x509.load_pem_x509_certificates(roots)
    found = [each for each in certificates if not pins or _pin(each) in pins]
    if not found:
        raise ConfigurationError(
            f"none of the {len(certificates)} roots has a key in ServiceIssuer.pins; their pins are "
            + ", ".join(_pin(each) for each in certificates[:8])
        )
    return b"".join(each.public_bytes(Encoding.PEM) for each in found)


def require_spiffe_id(certificate: bytes, expected: str) -> None:
    """Raise `ValueError` unless a certificate in DER has the expected SPIFFE ID, and no other URI (X509-SVID, section 2)."""
    names = x509.load_der_x509_certificate(certificate).extensions
    try:
        found = names.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = found.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    if uris != [expected]:
        shown = ", ".join(repr(uri[:256]) for uri in uris[:4]) or "none"
        raise ValueError(
            f"the service's certificate has the SPIFFE ID {shown}, and ServiceIssuer.spiffe_id is {expected!r}"
        )


def check_pins(pins: Collection[str]) -> None:
    """Raise `ConfigurationError` unless all pins have their form and one of them is a backup."""
    for pin in pins:
        if not _PIN.fullmatch(pin):
            raise ConfigurationError(
                f"ServiceIssuer.pins has {pin[:100]!r}; a pin is sha256/ and 44 characters of base64"
            )
    if len(set(pins)) == 1:
        raise ConfigurationError(
            "ServiceIssuer.pins has one pin; add a backup: the pin of an authority whose key is kept elsewhere, so that "
            "the service can change to it"
        )


def check_spiffe_id(text: str) -> None:
    """Raise `ConfigurationError` unless a text is a SPIFFE ID with a path."""
    path = text.removeprefix("spiffe://").split("/")[1:]
    if len(text) > _MAX_SPIFFE_ID or not _SPIFFE_ID.fullmatch(text) or {".", ".."} & set(path):
        raise ConfigurationError(
            f"ServiceIssuer.spiffe_id is {text[:100]!r}; write spiffe://TRUST_DOMAIN/PATH"
        )


def _pin(certificate: x509.Certificate) -> str:
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256/{b64encode(hashlib.sha256(key).digest()).decode()}"
