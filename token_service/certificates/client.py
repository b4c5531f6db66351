"""Client certificates: the names in one, and until when the authorities of now vouch for it.

gRPC's own properties of a peer cut names at a NUL and mix the types of names, so the certificate is parsed here.
Its chain was verified in the handshake. That may be long ago, and under other authorities: a resumed TLS session and
an open connection keep the certificate of their beginning. So the chain is looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

_MAX_NAMES: Final = 64
_MAX_CERTIFICATES: Final = 8
"""Of a chain."""
_MAX_CHAIN_BYTES: Final = 32 * 1024
"""Of a chain in PEM. Chains are remembered, and TLS lets a peer send 100 KB."""
_SPIFFE = re.compile(r"\s*spiffe:", re.IGNORECASE)


class CertificateError(Exception):
    """A client certificate that can't tell who calls; the text says why and is safe to show to the caller."""


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """What a client certificate says of its owner."""

    spiffe_id: str | None
    """Its URI, as it stands there, if it is a SPIFFE certificate (X509-SVID, section 2)."""
    dns_names: tuple[str, ...]
    """In lower case, without wildcards, which name nobody in particular."""


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """A certificate and those above it, the certificate first. Raises `CertificateError`."""
    require_short(pem)
    try:
        chain = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError("the client certificate can't be parsed") from None
    if len(chain) > _MAX_CERTIFICATES:
        raise CertificateError(f"the client certificate comes with more than {_MAX_CERTIFICATES - 1} others")
    return chain


def require_short(pem: bytes) -> None:
    """Raise `CertificateError` for a chain that takes too much memory to be remembered."""
    if len(pem) > _MAX_CHAIN_BYTES:
        raise CertificateError(
            f"the client certificate and those sent along take more than {_MAX_CHAIN_BYTES} bytes in PEM"
        )


def names_of(certificate: x509.Certificate) -> CertificateNames:
    """The names of a certificate, by the type of each (RFC 5280, section 4.2.1.6).

    Raises `CertificateError` if one can't be read without doubt, or if it has a SPIFFE ID beside other URIs.
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
    """The Unix time until which one of the authorities vouches for the first certificate of a chain.

    None: none of them does. The times of all certificates on the way count, the authority's own included.
    """
    # From the authorities down, the latest end first: the peer chose the other certificates, and can have made some
    # that sign each other in any order. Only keys that are vouched for verify signatures here, each pair once.
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
