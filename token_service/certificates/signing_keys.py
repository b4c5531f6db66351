"""Certificates of signing keys: certificate requests, and the check of a chain before its publication with a key
(`x5c`, RFC 7517, section 4.7).

A library can't sign a request with a key that never leaves its module. So this module builds the request around any
signing function, also for keys of this process.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from token_service.tokens.algorithms import MIN_RSA_BITS, Algorithm, algorithm_of

E = TypeVar("E", bound=x509.ExtensionType)

Sign = Callable[[bytes], Awaitable[bytes]]
"""`sign(data)` returns a JWS signature, as `Signer.sign` does."""

MAX_CERTIFICATES: Final = 10
_MAX_PEM: Final = 64 * 1024
_MIN_EC_BITS: Final = 256
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_ATTRIBUTES: Final = 0xA0  # [0] IMPLICIT
_VERSION_1: Final = bytes.fromhex("020100")
_TRUE: Final = bytes.fromhex("0101ff")
_EXTENSION_REQUEST: Final = bytes.fromhex("06092a864886f70d01090e")  # RFC 2985, section 5.4.2
_KEY_USAGE: Final = bytes.fromhex("0603551d0f")
_SIGNATURE_ALGORITHMS: Final = {
    Algorithm.RS256: bytes.fromhex("06092a864886f70d01010b0500"),  # sha256WithRSAEncryption (RFC 4055)
    Algorithm.PS256: bytes.fromhex(  # id-RSASSA-PSS with SHA-256, MGF1 with SHA-256 and 32 bytes of salt (RFC 4055)
        "06092a864886f70d01010a"
        "3034a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500"
        "a203020120"
    ),
    Algorithm.ES256: bytes.fromhex("06082a8648ce3d040302"),  # ecdsa-with-SHA256 (RFC 5758)
    Algorithm.EDDSA: bytes.fromhex("06032b6570"),  # id-Ed25519 (RFC 8410)
}
_SIGNS_ONLY: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


async def make_csr(
    public_key_der: bytes, sign: Sign, subject: str, *, made_for: Algorithm | None = None
) -> str:
    """Return a certificate request in PEM (RFC 2986) for the key of `sign`, with the key usage digitalSignature.

    `subject` is a name in the syntax of RFC 4514: `CN=tokens.example.com,O=Example`. See `algorithm_of` for
    `made_for`. Raises `ValueError` for an invalid subject, for a key without certificates (HS256) and for a signature of
    another key. Also raises the errors of `sign`.
    """
    key = _public_key(public_key_der)
    algorithm = algorithm_of(key, made_for)
    try:
        name = x509.Name.from_rfc4514_string(subject)
    except ValueError as error:
        raise ValueError(
            f"{subject!r} is not a subject: {error}; allowed: CN=tokens.example.com,O=Example"
        ) from None
    if not name.rdns:
        raise ValueError("the subject is empty; allowed: CN=tokens.example.com,O=Example")
    usage = _der(_SEQUENCE, _KEY_USAGE, _TRUE, _der(_OCTET_STRING, _SIGNS_ONLY.public_bytes()))
    extensions = _der(_SEQUENCE, _EXTENSION_REQUEST, _der(_SET, _der(_SEQUENCE, usage)))
    info = _der(_SEQUENCE, _VERSION_1, name.public_bytes(), _spki(key), _der(_ATTRIBUTES, extensions))
    signature = await sign(info)
    if algorithm is Algorithm.ES256:
        half = len(signature) // 2
        signature = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
    request = _der(
        _SEQUENCE,
        info,
        _der(_SEQUENCE, _SIGNATURE_ALGORITHMS[algorithm]),
        _der(_BIT_STRING, b"\0", signature),
    )
    parsed = x509.load_der_x509_csr(request)
    if not parsed.is_signature_valid:
        raise ValueError("the signature is not that of the key")
    return parsed.public_bytes(Encoding.PEM).decode("ascii")


def check_chain(certificates_pem: str | bytes, public_key_der: bytes, now: float) -> tuple[bytes, ...]:
    """Check that a PEM file is a chain for the key, and return its certificates in DER.

    Raises `ValueError` with the reason if it is not. The certificate of the key must come first, and each certificate
    must be signed by the next one (RFC 7517, section 4.7). The last one need not be a root. All must be valid at `now`.
    The first must be allowed to sign and must not be an authority. The others must be authorities with a sufficient
    path length (RFC 5280, section 6.1.4). Trust in the root is the decision of each verifier.

    The verifier of `cryptography` is made for the certificates of web servers: it supports neither Ed25519 nor chains
    without a root.
    """
    certificates = _load(certificates_pem)
    own = certificates[0]
    expected = _spki(_public_key(public_key_der))
    matching = [number for number, each in enumerate(certificates, 1) if _spki_of(each) == expected]
    if not matching:
        raise ValueError("none of the certificates is for this signing key")
    if matching[0] != 1:
        raise ValueError(f"the certificate of the signing key must come first; it is number {matching[0]}")
    for number, certificate in enumerate(certificates, 1):
        _check_validity(number, certificate, now)
        _check_critical_extensions(number, certificate)
    _check_own(own)
    for number, (certificate, issuer) in enumerate(pairwise(certificates), 1):
        _check_issued(number, certificate, issuer)
        _check_authority(number + 1, issuer, below=number - 1)
    return tuple(each.public_bytes(Encoding.DER) for each in certificates)


def _load(pem: str | bytes) -> Sequence[x509.Certificate]:
    data = pem.encode() if isinstance(pem, str) else pem
    if len(data) > _MAX_PEM:
        raise ValueError(f"the certificates are larger than {_MAX_PEM} bytes")
    if b"PRIVATE KEY" in data:
        raise ValueError("the file has a private key among the certificates; remove it")
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise ValueError(f"not certificates in PEM: {error}") from None
    if len(certificates) > MAX_CERTIFICATES:
        raise ValueError(f"{len(certificates)} certificates; allowed: {MAX_CERTIFICATES}")
    return certificates


def _check_validity(number: int, certificate: x509.Certificate, now: float) -> None:
    time = datetime.fromtimestamp(now, UTC)
    if time < certificate.not_valid_before_utc:
        raise ValueError(
            f"{_named(number, certificate)} is not valid before {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        )
    if time > certificate.not_valid_after_utc:
        raise ValueError(
            f"{_named(number, certificate)} expired at {certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        )


def _check_critical_extensions(number: int, certificate: x509.Certificate) -> None:
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"{_named(number, certificate)} has unusable extensions: {error}") from None
    for extension in extensions:
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise ValueError(
                f"{_named(number, certificate)} has the critical extension {extension.oid.dotted_string}, which is unknown"
            )


def _check_own(certificate: x509.Certificate) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise ValueError(
            f"{_named(1, certificate)} is an authority certificate; needed for a signing key: no basicConstraints CA:TRUE"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        raise ValueError(
            f"{_named(1, certificate)} does not allow to sign; needed: keyUsage digitalSignature"
        )


def _check_authority(number: int, certificate: x509.Certificate, *, below: int) -> None:
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise ValueError(
            f"{_named(number, certificate)} is not an authority certificate; needed: basicConstraints CA:TRUE"
        )
    if constraints.path_length is not None and constraints.path_length < below:
        raise ValueError(
            f"{_named(number, certificate)} allows {constraints.path_length} authorities below it, not {below} (pathlen)"
        )
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise ValueError(
            f"{_named(number, certificate)} may not sign certificates; needed: keyUsage keyCertSign"
        )
    try:
        key = certificate.public_key()
    except (UnsupportedAlgorithm, ValueError):
        raise ValueError(f"{_named(number, certificate)} has a key of an unknown type") from None
    weak = (isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS) or (
        isinstance(key, EllipticCurvePublicKey) and key.key_size < _MIN_EC_BITS
    )
    if weak:
        raise ValueError(f"{_named(number, certificate)} has a key that is too weak")


def _check_issued(number: int, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    named = _named(number, certificate)
    if certificate.issuer != issuer.subject:
        raise ValueError(
            f"{named} was issued by {certificate.issuer.rfc4514_string()!r}, but the next one is that of {issuer.subject.rfc4514_string()!r}"
        )
    try:
        digest = certificate.signature_hash_algorithm
        if digest is not None and digest.name not in _HASHES:
            raise ValueError(f"{named} is signed with {digest.name}, which is too weak")
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        raise ValueError(f"{named} is not signed by the next one") from None
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{named} is signed with an unknown algorithm") from None


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _named(number: int, certificate: x509.Certificate) -> str:
    return f"certificate {number} ({certificate.subject.rfc4514_string()!r})"


def _public_key(der: bytes) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey:
    if not der:
        raise ValueError("an HS256 key has no certificates")
    key = load_der_public_key(der)
    if isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        return key
    raise ValueError("not the public key of a signing key")


def _spki(key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki_of(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (UnsupportedAlgorithm, ValueError):
        return b""  # not the type of a signing key


def _der(tag: int, *contents: bytes) -> bytes:
    """Return one value in DER (X.690, section 10.1)."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content
