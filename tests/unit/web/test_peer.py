from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from starlette.requests import Request

from tests.support.certificates import Authority
from token_service.errors import InvalidRequestError
from token_service.web.peer import Peer, Peers, ProxyHeader, TrustedProxies, peer_of

PROXY, INNER, CLIENT = "10.0.0.1", "10.0.0.2", "198.51.100.7"
NETWORKS = (ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/8"))
MIDDLE = Authority("middle", parent=Authority())
CHAIN = MIDDLE.issue([x509.DNSName("batch.internal")]).certificate
LEAF, ISSUER = (
    certificate.public_bytes(Encoding.DER) for certificate in x509.load_pem_x509_certificates(CHAIN)
)

Lines = Sequence[tuple[str, str]]


def binary(der: bytes) -> str:
    return f":{b64encode(der).decode()}:"


def found(
    lines: Lines,
    *,
    address: str | None = PROXY,
    scheme: str = "http",
    tls: dict[str, Any] | None = None,
    header: ProxyHeader = ProxyHeader.X_FORWARDED,
    client_cert: bool = True,
    require_tls: bool = False,
    server: tuple[str, int | None] | None = None,
) -> Peer:
    """Return the peer of a request with these header lines from an address, at a server that trusts `NETWORKS`."""
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": scheme,
        "headers": [(name.lower().encode(), value.encode()) for name, value in lines],
        "client": None if address is None else (address, 1),
        "server": server,
    }
    if tls is not None:
        scope["extensions"] = {"tls": tls}
    proxies = TrustedProxies(networks=NETWORKS, header=header, client_cert=client_cert)
    request = Request(scope)
    peer = Peers(proxies, require_tls=require_tls).admit(request)
    assert peer_of(request) == peer
    return peer


def violated(lines: Lines, **options: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        found(lines, **options)
    return caught.value.violations[0].field


FORGED: Lines = (
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=192.0.2.1;proto=https"),
    ("Client-Cert", binary(LEAF)),
)


@pytest.mark.parametrize("header", ProxyHeader)
@pytest.mark.parametrize(
    ("address", "canonical"),
    [(CLIENT, CLIENT), ("10.0.1.1", "10.0.1.1"), ("2001:db8::1", "2001:db8::1"), (None, ""), ("", "")],
)
def test_headers_of_a_peer_that_is_no_trusted_proxy_are_ignored(
    header: ProxyHeader, address: str | None, canonical: str
) -> None:
    assert found(FORGED, address=address, header=header) == Peer(canonical, is_secure=False)
    malformed = [(name, "\xff") for name, _ in FORGED]
    assert found(malformed, address=address, header=header) == Peer(canonical, is_secure=False)


def test_peer_of_a_connection_has_its_scheme_and_certificate() -> None:
    tls = {"client_cert_chain": [CHAIN.decode()]}
    peer = found((), address=CLIENT, scheme="https", tls=tls)
    assert peer == Peer(CLIENT, is_secure=True, chain=CHAIN)
    assert peer.certificate == x509.load_pem_x509_certificate(CHAIN)
    assert found((), address=CLIENT, scheme="https", tls={"client_cert_chain": []}).certificate is None


def test_certificate_and_scheme_of_a_proxy_are_not_those_of_its_client() -> None:
    tls = {"client_cert_chain": [CHAIN.decode()]}
    assert found((), scheme="https", tls=tls) == Peer(PROXY, is_secure=False)


@pytest.mark.parametrize("proxy", [PROXY, f"::ffff:{PROXY}", "fd00::1"])
@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([CLIENT], CLIENT),
        ([f"{CLIENT}:4711"], CLIENT),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:DB8::0001]"], "2001:db8::1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"192.0.2.1, {CLIENT}"], CLIENT),
        ([f"192.0.2.1, {CLIENT}, {INNER}"], CLIENT),
        (["192.0.2.1", f"{CLIENT} ,{INNER}"], CLIENT),
        ([f"garbage, {CLIENT}"], CLIENT),
        ([f"{PROXY}, {INNER}"], PROXY),
        ([f"{INNER}, garbage, {CLIENT}, {INNER}"], CLIENT),
    ],
)
def test_client_is_the_rightmost_address_that_is_no_trusted_proxy(
    proxy: str, forwarded: list[str], address: str
) -> None:
    lines = [("X-Forwarded-For", line) for line in forwarded]
    assert found(lines, address=proxy) == Peer(address, is_secure=False)


@pytest.mark.parametrize(
    ("schemes", "is_secure"),
    [
        (["https"], True),
        (["HTTPS"], True),
        (["https, https"], True),
        (["http"], False),
        (["https, http"], False),
        (["https", "http"], False),
        (["http, https"], False),
        ([], False),
    ],
)
def test_client_is_secure_if_the_proxies_say_nothing_but_https(
    schemes: list[str], *, is_secure: bool
) -> None:
    lines = [("X-Forwarded-For", CLIENT), *(("X-Forwarded-Proto", scheme) for scheme in schemes)]
    assert found(lines) == Peer(CLIENT, is_secure=is_secure)
    assert found([*lines, ("Forwarded", "for=192.0.2.1;proto=https")]) == Peer(CLIENT, is_secure=is_secure)


@pytest.mark.parametrize(
    ("lines", "address", "is_secure"),
    [
        (["for=198.51.100.7;proto=https"], CLIENT, True),
        (["For=198.51.100.7; Proto=https;by=_x;host=a"], CLIENT, True),
        (["for=198.51.100.7;proto=http"], CLIENT, False),
        (["for=198.51.100.7"], CLIENT, False),
        (['proto=https;for="[2001:db8::1]:443"'], "2001:db8::1", True),
        (['for="198.51.100.7:1";proto="htt\\ps"'], CLIENT, True),
        (["for=198.51.100.7;proto=https, for=10.0.0.2;proto=http"], CLIENT, True),
        (["for=198.51.100.7;proto=http,for=10.0.0.2;proto=https"], CLIENT, False),
        (["for=unknown;proto=https, for=198.51.100.7;proto=http"], CLIENT, False),
        (["for=unknown", "for=198.51.100.7;proto=https"], CLIENT, True),
        (["for=10.0.0.9;proto=https, for=10.0.0.2;proto=http"], "10.0.0.9", True),
        (["for=198.51.100.7;proto=https,, ,"], CLIENT, True),
        ([], PROXY, False),
    ],
)
def test_forwarded_tells_address_and_scheme_of_the_client(
    lines: list[str], address: str, *, is_secure: bool
) -> None:
    sent = [("Forwarded", line) for line in lines]
    forged = [("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https")]
    assert found([*sent, *forged], header=ProxyHeader.FORWARDED) == Peer(address, is_secure=is_secure)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-For", "unknown"),
        ("X-Forwarded-For", ""),
        ("X-Forwarded-For", f"{CLIENT},"),
        ("X-Forwarded-For", "fe80::1%eth0"),
        ("X-Forwarded-For", "127.1"),
        ("X-Forwarded-For", f"{CLIENT}:x"),
        ("X-Forwarded-For", ", ".join([CLIENT] * 33)),
        ("X-Forwarded-Proto", "wss"),
        ("X-Forwarded-Proto", ""),
        ("X-Forwarded-Proto", ", ".join(["https"] * 33)),
    ],
)
def test_malformed_header_of_a_trusted_proxy_is_refused(header: str, value: str) -> None:
    assert violated([(header, value)]) == header


@pytest.mark.parametrize(
    "value",
    [
        "for",
        "for=unknown",
        "for=_hidden;proto=https",
        "for=198.51.100.7;for=192.0.2.1",
        'for="198.51.100.7',
        'for="x, for="198.51.100.7";proto=https',
        "for=198.51.100.7 proto=https",
        "for=198.51.100.7;proto=ftp",
        "proto=https",
        "for=[2001:db8::1]",
        ", ".join([f"for={CLIENT}"] * 33),
    ],
)
def test_malformed_forwarded_is_refused(value: str) -> None:
    assert violated([("Forwarded", value)], header=ProxyHeader.FORWARDED) == "Forwarded"


def test_quote_that_the_client_left_open_does_not_swallow_the_line_of_the_proxy() -> None:
    lines = [("Forwarded", 'for="'), ("Forwarded", f"for={CLIENT};proto=https")]
    assert violated(lines, header=ProxyHeader.FORWARDED) == "Forwarded"


def test_certificate_of_the_client_comes_from_a_trusted_proxy() -> None:
    lines = [("X-Forwarded-For", CLIENT), ("Client-Cert", binary(LEAF))]
    peer = found(lines)
    assert peer.certificate == x509.load_der_x509_certificate(LEAF)
    with_issuer = found([*lines, ("Client-Cert-Chain", f" {binary(ISSUER)} ,{binary(ISSUER)}")])
    assert x509.load_pem_x509_certificates(with_issuer.chain) == [
        x509.load_der_x509_certificate(der) for der in (LEAF, ISSUER, ISSUER)
    ]


def test_client_cert_is_ignored_unless_the_proxies_are_stated_to_remove_it_from_requests() -> None:
    lines = [("X-Forwarded-For", CLIENT), ("Client-Cert", binary(LEAF))]
    assert found(lines, client_cert=False) == Peer(CLIENT, is_secure=False)
    assert found([*lines, ("Client-Cert", "x")], client_cert=False).chain == b""


@pytest.mark.parametrize(
    "lines",
    [
        [("Client-Cert", b64encode(LEAF).decode())],
        [("Client-Cert", "::")],
        [("Client-Cert", ":!:")],
        [("Client-Cert", binary(LEAF[:-1]))],
        [("Client-Cert", binary(b"x"))],
        [("Client-Cert", f"{binary(LEAF)};a=b")],
        [("Client-Cert", CHAIN.decode().replace("\n", " "))],
        [("Client-Cert", binary(LEAF)), ("Client-Cert", binary(LEAF))],
        [("Client-Cert", f"{binary(LEAF)}, {binary(LEAF)}")],
        [("Client-Cert-Chain", binary(ISSUER))],
    ],
)
def test_malformed_client_cert_is_refused(lines: Lines) -> None:
    assert violated(lines) == "Client-Cert"
    assert violated([("Client-Cert", binary(LEAF)), ("Client-Cert-Chain", "x")]) == "Client-Cert-Chain"


def test_peer_without_tls_is_refused_where_tls_is_required() -> None:
    assert found((), address=CLIENT, scheme="https", require_tls=True).is_secure
    assert found([("X-Forwarded-Proto", "https")], require_tls=True).is_secure
    assert violated((), address=CLIENT, require_tls=True) == "scheme"
    assert violated(FORGED, address=CLIENT, require_tls=True) == "scheme"
    assert violated((), scheme="https", require_tls=True) == "scheme"


def test_request_whose_sender_has_reset_the_connection_is_refused() -> None:
    assert violated((), address=None, server=("127.0.0.1", 8080)) == "connection"
    assert found((), address=None, server=("/run/http.sock", None)).address == ""


def test_repr_shows_no_certificate() -> None:
    assert "BEGIN" not in repr(Peer(CLIENT, is_secure=True, chain=CHAIN))
