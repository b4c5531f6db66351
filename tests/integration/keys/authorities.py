"""Certificate authorities for tests: an offline root, an intermediate below it, and the certificates they sign."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_SIGNS = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}


class Authority:
    """Signs certificates for other authorities and for signing keys."""

    def __init__(self, name: str, issuer: Authority | None = None) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._issuer = issuer or self
        builder = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **_SIGNS)
        self._certificate = self._issuer._sign(builder.add_extension(usage, critical=True))

    @property
    def pem(self) -> str:
        """The authority's own certificate."""
        return self._certificate.public_bytes(Encoding.PEM).decode()

    def certify(self, request: x509.CertificateSigningRequest) -> str:
        """Return the chain for a request, in PEM: its certificate, this authority's and those above."""
        builder = self._builder(request.subject, request.public_key()).add_extension(
            x509.BasicConstraints(ca=False, path_length=None), critical=True
        )
        for extension in request.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        own = self._sign(builder).public_bytes(Encoding.PEM).decode()
        return own + self._chain()

    def _chain(self) -> str:
        above = "" if self._issuer is self else self._issuer._chain()
        return self.pem + above

    def _builder(self, subject: x509.Name, key: CertificatePublicKeyTypes) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .public_key(key)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, critical=False)
        return builder.issuer_name(self._name).sign(self._key, SHA256())
