"""Headers in which a proxy tells about its client: `Forwarded` (RFC 7239), `X-Forwarded-*`, `Client-Cert` (RFC 9440)."""

from __future__ import annotations

import binascii
import ipaddress
import re
import ssl
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Final

from cryptography import x509
from starlette.datastructures import Headers

from token_service.errors import InvalidRequestError

MAX_HOPS: Final = 32
"""Proxies in the header of a request."""
FORWARDED: Final = "Forwarded"
X_FORWARDED_FOR: Final = "X-Forwarded-For"
X_FORWARDED_PROTO: Final = "X-Forwarded-Proto"
CLIENT_CERT: Final = "Client-Cert"
CLIENT_CERT_CHAIN: Final = "Client-Cert-Chain"

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t\x20-\x7e])*"'
_PAIR: Final = re.compile(
    rf"[ \t]*(?:(?P<name>{_TOKEN})=(?:(?P<token>{_TOKEN})|(?P<quoted>{_QUOTED})))?[ \t]*(?P<end>[;,]|\Z)",
    re.ASCII,
)
_BYTES: Final = re.compile(r"[ \t]*:(?P<base64>[A-Za-z0-9+/=]+):[ \t]*", re.ASCII)
_IPV4_PORT: Final = re.compile(r"(?P<address>[0-9.]+):[0-9]{1,5}", re.ASCII)
_IPV6: Final = re.compile(r"\[(?P<address>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?", re.ASCII)


def forwarded_elements(headers: Headers) -> list[dict[str, str]]:
    """Return the elements of `Forwarded`, by the order of the proxies. Raises `InvalidRequestError`.

    Each header line is parsed on its own, so a quote that the client left open can't swallow the line of a proxy.
    """
    found: list[dict[str, str]] = []
    for line in headers.getlist(FORWARDED):
        found += [element for element in _elements(line) if element]
    if len(found) > MAX_HOPS:
        raise _too_many(FORWARDED)
    return found


def _elements(line: str) -> Iterator[dict[str, str]]:
    at = 0
    element: dict[str, str] = {}
    while True:
        match = _PAIR.match(line, at)
        name = None if match is None else (match["name"] or "").lower()
        if match is None or name in element:
            raise InvalidRequestError.of(FORWARDED, "is malformed (RFC 7239, section 4)")
        if name:
            quoted = match["quoted"]
            element[name] = match["token"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1:-1])
        if match["end"] != ";":
            yield element
            element = {}
        if not match["end"]:
            return
        at = match.end()


def values_of(headers: Headers, name: str) -> list[str]:
    """Return the values of a header that is a list with commas. Raises `InvalidRequestError` for more than `MAX_HOPS`."""
    values = [value.strip(" \t") for line in headers.getlist(name) for value in line.split(",")]
    if len(values) > MAX_HOPS:
        raise _too_many(name)
    return values


def parse_node(text: str, header: str) -> str:
    """Return the address in the text of a proxy, with or without port. Raises `InvalidRequestError`."""
    match = _IPV6.fullmatch(text) or _IPV4_PORT.fullmatch(text)
    try:
        if "%" in text:
            raise ValueError
        return canonical(ipaddress.ip_address(match["address"] if match is not None else text))
    except ValueError:
        raise InvalidRequestError.of(header, "has an element that is no IP address") from None


def canonical(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return the one text of an address. An IPv4 address in IPv6 is an IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def is_https(schemes: Sequence[str], header: str) -> bool:
    """Tell whether every scheme is https; False if there is none. Raises `InvalidRequestError` for another than http(s)."""
    lower = [scheme.lower() for scheme in schemes]
    if not {"http", "https"}.issuperset(lower):
        raise InvalidRequestError.of(header, "has a scheme other than http and https")
    return bool(lower) and "http" not in lower


def client_chain(headers: Headers) -> bytes:
    """Return the certificate and its issuers in `Client-Cert` and `Client-Cert-Chain`, PEM; empty without them.

    Raises `InvalidRequestError`.
    """
    leaf = headers.getlist(CLIENT_CERT)
    others = headers.getlist(CLIENT_CERT_CHAIN)
    if not leaf and not others:
        return b""
    if len(leaf) != 1:
        raise InvalidRequestError.of(CLIENT_CERT, "must be sent exactly once, also with Client-Cert-Chain")
    texts = [_pem(leaf[0], CLIENT_CERT)]
    texts += [_pem(part, CLIENT_CERT_CHAIN) for line in others for part in line.split(",")]
    return "".join(texts).encode()


def _pem(text: str, header: str) -> str:
    """Return the PEM of a certificate in a Byte Sequence (RFC 8941, section 3.3.5)."""
    match = _BYTES.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        der = b64decode(match["base64"], validate=True)
        x509.load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        raise InvalidRequestError.of(
            header, "is no certificate in base64 between colons (RFC 9440, section 2.1)"
        ) from None
    return ssl.DER_cert_to_PEM_cert(der)


def _too_many(header: str) -> InvalidRequestError:
    return InvalidRequestError.of(header, f"has more than {MAX_HOPS} elements")
