"""The thumbprint of the client certificate that a proxy passes on (RFC 8705, RFC 9440)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from token_service.tokens.base64url import encode

CONNECTION: Final = "connection"
_MAX_TEXT: Final = 64 * 1024
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s++([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_PAIR: Final = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"]*)(;|,|\Z)')


class Certificates:
    """Reads the client certificate from the form that a source gives it."""

    def __init__(self, source: str, header: str | None = None) -> None:
        """Configure the source: `connection`, `xfcc`, `client-cert`, `escaped-pem` or `none`."""
        self.header = header or {"xfcc": "x-forwarded-client-cert", "client-cert": "client-cert"}.get(source)
        """The header with the certificate, in lower case; None: no header is trusted."""
        self.from_connection = source == CONNECTION
        self._read = {
            "connection": of_escaped_pem,
            "escaped-pem": of_escaped_pem,
            "client-cert": of_client_cert,
            "xfcc": of_xfcc,
        }.get(source)

    def thumbprint(self, text: str) -> str:
        """Return `x5t#S256` of a certificate; empty without a certificate or for a text that is none."""
        if not text or self._read is None or len(text) > _MAX_TEXT:
            return ""
        return self._read(text)


@lru_cache(1024)
def of_escaped_pem(text: str) -> str:
    """Return the thumbprint of a PEM certificate with percent-encoding, as Envoy and nginx write it.

    If there is a chain, the first certificate is that of the client.
    """
    match = _PEM.search(unquote(text))
    return _of_base64("".join(match[1].split())) if match is not None else ""


@lru_cache(1024)
def of_client_cert(text: str) -> str:
    """Return the thumbprint of a certificate in the form of `Client-Cert` (RFC 9440, section 2.2)."""
    text = text.strip(" ")
    if len(text) < 3 or text[0] != ":" or text[-1] != ":":
        return ""
    return _of_base64(text[1:-1])


@lru_cache(1024)
def of_xfcc(text: str) -> str:
    """Return the thumbprint in `x-forwarded-client-cert` of Envoy, whose `Hash` is the SHA-256 of the certificate.

    Several elements mean that proxies appended to the value, and the first of them may be from the client: there is no
    certificate then.
    """
    found, at = "", 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None or match[3] == ",":
            return ""
        if match[1].lower() == "hash":
            if found or not _HASH.fullmatch(match[2]):
                return ""
            found = encode(bytes.fromhex(match[2]))
        at = match.end()
    return found


def _of_base64(text: str) -> str:
    try:
        certificate = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return encode(hashlib.sha256(certificate).digest()) if certificate else ""
