"""Client certificates: their names, and the time until which the current authorities vouch for them.

gRPC's own properties of a peer cut names at a NUL and mix the types of names, so this module parses the certificate.
The handshake verified the chain, but possibly long ago and with other authorities: a resumed TLS session and an open
connection keep the certificate of their handshake. So this module verifies the chain again.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from token_service.tokens import base64url

_MAX_NAMES: Final = 64
_MAX_CERTIFICATES: Final = 8
"""Certificates of a chain."""
_MAX_CHAIN_BYTES: Final = 32 * 1024
"""Bytes of a chain in PEM. Chains are cached, and TLS lets a peer send 100 KB."""
_END: Final = b"-----END CERTIFICATE-----"
_SPIFFE = re.compile(r"\s*spiffe:", re.IGNORECASE)


class CertificateError(Exception):
    """A client certificate does not identify the caller. The text names the reason and is safe to show to the caller."""


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """The names in a client certificate."""

    spiffe_id: str | None
    """The unchanged URI of a SPIFFE certificate (X509-SVID, section 2); None for other certificates."""
    dns_names: tuple[str, ...]
    """The DNS names in lower case, without wildcards, which identify no single caller."""


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """Parse a chain: the certificate first, then its issuers. Raises `CertificateError`."""
    require_short(pem)
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError("the client certificate can't be parsed") from None
    if len(chain) > _MAX_CERTIFICATES:
        raise CertificateError(
            f"the client certificate comes with more than {_MAX_CERTIFICATES - 1} other certificates"
        )
    return chain


def require_short(pem: bytes) -> None:
    """Raise `CertificateError` for a chain that is too large for the cache."""
    if len(pem) > _MAX_CHAIN_BYTES:
        raise CertificateError(
            f"the client certificate and its issuers take more than {_MAX_CHAIN_BYTES} bytes in PEM"
        )


def names_of(certificate: x509.Certificate) -> CertificateNames:
    """Return the names of a certificate by their type (RFC 5280, section 4.2.1.6).

    Raises `CertificateError` for an ambiguous name, and for a SPIFFE ID with a second URI.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
        dns_names = extension.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        return CertificateNames(None, ())
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError("the names in the client certificate can't be parsed") from None
    if len(uris) + len(dns_names) > _MAX_NAMES:
        raise CertificateError(f"the client certificate has more than {_MAX_NAMES} names")
    for name in (*uris, *dns_names):
        if not name.isascii() or not name.isprintable():
            raise CertificateError(
                "a name in the client certificate has a character that is not printable ASCII"
            )
    if any(map(_SPIFFE.match, uris)) and len(uris) > 1:
        raise CertificateError(
            "the client certificate has a SPIFFE ID and another URI; a SPIFFE certificate has one URI"
        )
    spiffe_id = next((uri for uri in uris if _SPIFFE.match(uri)), None)
    return CertificateNames(spiffe_id, tuple(name.lower() for name in dns_names if "*" not in name))


def vouched_until(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> float | None:
    """Return the Unix time until which one of the authorities vouches for the first certificate of a chain.

    Returns None if no authority vouches for it. The expiry of every certificate on the path counts, including the
    authority's own.
    """
    # The search goes from the authorities down, the latest expiry first, because the peer chose the other certificates
    # and may send some that sign each other in any order. Only vouched keys verify signatures, each pair once.
    issuers = [(_end_of(authority), authority) for authority in authorities]
    left = list(dict.fromkeys(chain))
    while issuers:
        until, issuer = issuers.pop(max(range(len(issuers)), key=lambda at: issuers[at][0]))
        for certificate in [each for each in left if each == issuer or _issued(each, issuer)]:
            end = min(until, _end_of(certificate))
            if certificate == chain[0]:
                return end
            left.remove(certificate)
            if _is_authority(certificate):
                issuers.append((end, certificate))
    return None


@lru_cache(maxsize=1024)  # a client uses one connection after another
def thumbprint_of(chain: bytes) -> str:
    """Return the `x5t#S256` of the first certificate in PEM (RFC 8705, section 3.1); empty without one."""
    if not chain:
        return ""
    leaf = chain[: chain.index(_END) + len(_END)].decode("ascii")
    der = ssl.PEM_cert_to_DER_cert(leaf)
    return base64url.encode(hashlib.sha256(der).digest())


def _end_of(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
