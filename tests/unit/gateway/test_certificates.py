from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.certificates import Authority
from token_service.gateway.certificates import Certificates

DER = b"\x30\x03\x02\x01\x05"
PEM = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(DER).decode()}\n-----END CERTIFICATE-----\n"
OTHER = PEM.replace(base64.b64encode(DER).decode(), base64.b64encode(b"other").decode())
HASH = hashlib.sha256(DER)
THUMBPRINT = base64.urlsafe_b64encode(HASH.digest()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("source", "text", "thumbprint"),
    [
        ("connection", quote(PEM), THUMBPRINT),
        ("connection", quote(PEM + OTHER), THUMBPRINT),
        ("connection", "nonsense", ""),
        ("connection", "", ""),
        ("escaped-pem", quote(PEM, safe=""), THUMBPRINT),
        ("escaped-pem", PEM, THUMBPRINT),
        ("escaped-pem", quote(PEM.replace("MAMC", "!")), ""),
        # Half a minute instead of half a millisecond, if the pattern tries each way to divide the white space.
        ("escaped-pem", f"-----BEGIN CERTIFICATE-----{' ' * 60_000}!", ""),
        ("client-cert", f":{base64.b64encode(DER).decode()}:", THUMBPRINT),
        ("client-cert", base64.b64encode(DER).decode(), ""),
        ("client-cert", ":!!:", ""),
        ("client-cert", "::", ""),
        ("client-cert", f":{base64.b64encode(DER).decode()}:,:{base64.b64encode(DER).decode()}:", ""),
        ("xfcc", f'By=spiffe://a/b;Hash={HASH.hexdigest()};Subject="CN=a,O=\\"b;c\\"";URI=', THUMBPRINT),
        ("xfcc", f"Hash={HASH.hexdigest()}", THUMBPRINT),
        ("xfcc", f"Hash={HASH.hexdigest()},Hash={'0' * 64}", ""),
        ("xfcc", f"By=a,Hash={HASH.hexdigest()}", ""),
        ("xfcc", f"Hash={HASH.hexdigest()};Hash={'0' * 64}", ""),
        ("xfcc", "Hash=abc", ""),
        ("xfcc", 'Subject="CN=a', ""),
        ("none", quote(PEM), ""),
    ],
)
def test_thumbprint(source: str, text: str, thumbprint: str) -> None:
    assert Certificates(source, "x-client-cert").thumbprint(text) == thumbprint


def test_thumbprint_of_a_real_certificate() -> None:
    pem = Authority().caller(dns_name="client.example").certificate.decode()
    digest = x509.load_pem_x509_certificate(pem.encode()).fingerprint(SHA256())
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert Certificates("connection").thumbprint(quote(pem)) == expected


def test_headers_of_the_sources() -> None:
    assert Certificates("connection").header is None
    assert Certificates("none").header is None
    assert Certificates("xfcc").header == "x-forwarded-client-cert"
    assert Certificates("client-cert").header == "client-cert"
    assert Certificates("escaped-pem", "x-ssl-cert").header == "x-ssl-cert"
