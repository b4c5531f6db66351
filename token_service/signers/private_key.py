"""Private keys: made, written and read. One key is for one algorithm (RFC 8725, section 3.1)."""

from __future__ import annotations

import hmac
import secrets
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key as generate_ec_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from token_service.tokens import base64url
from token_service.tokens.algorithms import MIN_HMAC_BYTES, Algorithm, VerificationKeyMaterial, algorithm_of
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret

PrivateKey: TypeAlias = rsa.RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Secret
"""A `Secret` is an HS256 key."""

DEFAULT_RSA_BITS = 2048


def generate_private_key(algorithm: Algorithm, *, rsa_bits: int = DEFAULT_RSA_BITS) -> PrivateKey:
    """A new key for an algorithm.

    RSA takes a tenth of a second and more; it releases the interpreter meanwhile.
    """
    if algorithm is Algorithm.RS256:
        return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)
    if algorithm is Algorithm.ES256:
        return generate_ec_key(SECP256R1())
    if algorithm is Algorithm.EDDSA:
        return Ed25519PrivateKey.generate()
    return Secret(secrets.token_bytes(MIN_HMAC_BYTES))


def verification_material(key: PrivateKey) -> VerificationKeyMaterial:
    """What verifies the key's signatures: its public key, or the secret itself for HS256."""
    return key if isinstance(key, Secret) else key.public_key()


def key_algorithm(key: PrivateKey) -> Algorithm:
    """The one algorithm a key may sign with. Raises `ValueError` for a key too weak or of another kind."""
    return algorithm_of(verification_material(key))


def key_id_of(key: PrivateKey) -> str:
    """The `kid`: the thumbprint of the public key (RFC 7638).

    A secret has no public part and its thumbprint would say something of it (RFC 7638, section 7), so its id
    is an HMAC under it.
    """
    if isinstance(key, Secret):
        return base64url.encode(hmac.digest(key.reveal(), b"token_service key id", "sha256"))
    return str(public_jwk(key.public_key())["kid"])


def private_key_bytes(key: PrivateKey) -> Secret:
    """What to keep: DER of PKCS#8 (RFC 5208), not encrypted; for HS256 the secret itself."""
    if isinstance(key, Secret):
        return key
    return Secret(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def load_private_key(algorithm: Algorithm, data: Secret) -> PrivateKey:
    """The key of `private_key_bytes`.

    Raises `ValueError` if it is none, too weak, or not for this algorithm.
    """
    key: object = data
    if algorithm is not Algorithm.HS256:
        try:
            key = load_der_private_key(data.reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not a private key in PKCS#8") from None
    if not isinstance(key, rsa.RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Secret):
        raise ValueError("not a private key of a kind supported here")
    if key_algorithm(key) is not algorithm:
        raise ValueError(f"not a key for {algorithm}")
    return key


def public_key_bytes(key: PrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo of the public key; empty for HS256."""
    if isinstance(key, Secret):
        return b""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
