"""Generation and serialization of private keys. Each key is for one algorithm (RFC 8725, section 3.1)."""

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
from token_service.tokens.algorithms import (
    MIN_HMAC_BYTES,
    RSA_ALGORITHMS,
    Algorithm,
    VerificationKeyMaterial,
    algorithm_of,
)
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret

PrivateKey: TypeAlias = rsa.RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Secret
"""A private key. A `Secret` is an HS256 key."""

DEFAULT_RSA_BITS = 2048


def generate_private_key(algorithm: Algorithm, *, rsa_bits: int = DEFAULT_RSA_BITS) -> PrivateKey:
    """Generate a key for an algorithm.

    An RSA key takes 0.1 s or more. The interpreter lock is released during this time.
    """
    if algorithm in RSA_ALGORITHMS:
        return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)
    if algorithm is Algorithm.ES256:
        return generate_ec_key(SECP256R1())
    if algorithm is Algorithm.EDDSA:
        return Ed25519PrivateKey.generate()
    return Secret(secrets.token_bytes(MIN_HMAC_BYTES))


def verification_material(key: PrivateKey) -> VerificationKeyMaterial:
    """Return the material that verifies signatures of a key: its public key, or the secret itself for HS256."""
    return key if isinstance(key, Secret) else key.public_key()


def key_algorithm(key: PrivateKey, made_for: Algorithm | None = None) -> Algorithm:
    """Return the one algorithm of a key. See `algorithm_of` for `made_for` and the errors."""
    return algorithm_of(verification_material(key), made_for)


def key_id_of(key: PrivateKey) -> str:
    """Return the `kid` of a key: the thumbprint of the public key (RFC 7638).

    A secret has no public part, and its thumbprint would reveal information about it (RFC 7638, section 7). Its id is
    therefore an HMAC with the secret as key.
    """
    if isinstance(key, Secret):
        return base64url.encode(hmac.digest(key.reveal(), b"token_service key id", "sha256"))
    return str(public_jwk(key.public_key())["kid"])


def private_key_bytes(key: PrivateKey) -> Secret:
    """Return the bytes to store: unencrypted PKCS#8 in DER (RFC 5208), or the secret itself for HS256."""
    if isinstance(key, Secret):
        return key
    return Secret(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def load_private_key(algorithm: Algorithm, data: Secret) -> PrivateKey:
    """Load a key from the bytes of `private_key_bytes`.

    Raises `ValueError` for bytes that are no key, and for a key that is too weak or of another algorithm.
    """
    key: object = data
    if algorithm is not Algorithm.HS256:
        try:
            key = load_der_private_key(data.reveal(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ValueError("not a private key in PKCS#8") from None
    if not isinstance(key, rsa.RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | Secret):
        raise ValueError("not a private key of a supported type")
    try:
        key_algorithm(key, algorithm)
    except ValueError as error:
        raise ValueError(f"not a key for {algorithm}: {error}") from None
    return key


def public_key_bytes(key: PrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo of the public key in DER; empty for HS256."""
    if isinstance(key, Secret):
        return b""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
