"""Certificate authorities and the certificates they sign, created for one test."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Certificate:
    """A certificate with its intermediate authorities, and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Signs certificates for servers, for callers and for authorities below it."""

    def __init__(
        self,
        name: str = "Test Authority",
        *,
        parent: Authority | None = None,
        lifetime: float = 3600,
        constraints: x509.NameConstraints | None = None,
    ) -> None:
        """`lifetime`: seconds from now to the end of the authority's own certificate."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._parent = parent
        self.x509 = self._certify(lifetime, constraints)

    def renewed(self, *, lifetime: float) -> Authority:
        """Return the same authority, by name and key, with another certificate."""
        other = copy(self)
        other.x509 = other._certify(lifetime, None)
        return other

    def signed_by(self, parent: Authority) -> Authority:
        """Return the same authority, by name and key, with a certificate of another one."""
        other = copy(self)
        other._parent = parent
        other.x509 = other._certify(3600, None)
        return other

    def _certify(self, lifetime: float, constraints: x509.NameConstraints | None) -> x509.Certificate:
        parent = self._parent
        signer = self if parent is None else parent
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            signer._builder(self._name, self._key.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        return builder.sign(signer._key, hashes.SHA256())

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate, PEM."""
        return self.x509.public_bytes(serialization.Encoding.PEM)

    def server(self, dns_name: str | None = None) -> Certificate:
        """Issue a certificate for a server on loopback, or for a server with only a DNS name."""
        if dns_name is not None:
            return self.issue([x509.DNSName(dns_name)])
        return self.issue([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])

    def caller(
        self, *, spiffe_id: str | None = None, dns_name: str | None = None, lifetime: float = 3600
    ) -> Certificate:
        """Issue a certificate for a caller with a SPIFFE ID or a DNS name."""
        names: list[x509.GeneralName] = []
        if spiffe_id is not None:
            names.append(x509.UniformResourceIdentifier(spiffe_id))
        if dns_name is not None:
            names.append(x509.DNSName(dns_name))
        return self.issue(names, lifetime=lifetime)

    def issue(
        self,
        names: Sequence[x509.GeneralName] = (),
        *,
        lifetime: float = 3600,
        begins: float = -3600,
        raw_names: bytes | None = None,
        ca: bool = False,
    ) -> Certificate:
        """Issue any certificate. Times are seconds from now; `raw_names`: verbatim DER of the subjectAltName."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(_name("test"), key.public_key(), lifetime, begins)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
                critical=False,
            )
        )
        if raw_names is not None:
            raw = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, raw_names)
            builder = builder.add_extension(raw, critical=False)
        elif names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Certificate(
            pem + self._above(),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _above(self) -> bytes:
        """Return this authority and its parents except the root, as a server or client sends them."""
        return b"" if self._parent is None else self.certificate + self._parent._above()

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: float, begins: float = -3600
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(seconds=begins))
            .not_valid_after(now + timedelta(seconds=lifetime))
        )


def subject_alt_names(*names: tuple[int, bytes]) -> bytes:
    """Return the DER of a subjectAltName with these bytes by type: 2 is a DNS name, 6 a URI (RFC 5280, 4.2.1.6)."""
    parts = b"".join(bytes([0x80 | kind]) + _length(value) + value for kind, value in names)
    return b"\x30" + _length(parts) + parts


def _length(value: bytes) -> bytes:
    size = len(value)
    return bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
