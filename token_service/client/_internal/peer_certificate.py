"""The client certificate of a gRPC call."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterable, Mapping

from token_service.tokens.base64url import encode


def certificate_thumbprint(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """Return the `x5t#S256` of the client certificate (RFC 8705, section 3.1); empty: the client presented none."""
    for certificate in auth_context.get("x509_pem_cert", ()):
        try:
            der = ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))
        except ValueError:
            return ""
        return encode(hashlib.sha256(der).digest())
    return ""
