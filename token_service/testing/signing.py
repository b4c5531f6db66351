"""Keys that sign the tokens of tests."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key as generate_rsa_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from token_service.tokens import strict_json
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.base64url import encode
from token_service.tokens.jwk import public_jwk

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_COORDINATE_BYTES: Final = 32
_PSS: Final = PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH)  # RFC 7518, section 3.5


class SigningKey:
    """A private key with its algorithm."""

    def __init__(self, algorithm: Algorithm) -> None:
        """Generate a key. An RSA key takes about a tenth of a second. Raises `ValueError` for another algorithm."""
        self.algorithm = algorithm
        self._key: PrivateKey
        if algorithm is Algorithm.ES256:
            self._key = generate_private_key(SECP256R1())
        elif algorithm is Algorithm.EDDSA:
            self._key = Ed25519PrivateKey.generate()
        elif algorithm in {Algorithm.RS256, Algorithm.PS256}:
            self._key = generate_rsa_key(65537, 2048)
        else:
            raise ValueError(f"{algorithm.value} is not an algorithm of tests; use one of public keys")
        self.jwk: dict[str, Any] = public_jwk(self._key.public_key(), algorithm)

    @property
    def key_id(self) -> str:
        """`kid`: the thumbprint of the key."""
        return str(self.jwk["kid"])

    def sign(self, data: bytes) -> bytes:
        """Return the signature in the form of a JWS (RFC 7518, section 3)."""
        if isinstance(self._key, RSAPrivateKey):
            padding = PKCS1v15() if self.algorithm is Algorithm.RS256 else _PSS
            return self._key.sign(data, padding, SHA256())
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(data)
        r, s = decode_dss_signature(self._key.sign(data, ECDSA(SHA256())))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


def jws(header: dict[str, Any], payload: bytes, key: SigningKey | bytes | None) -> str:
    """Return a JWS in compact form. Bytes are an HS256 secret; None leaves the signature out."""
    signing_input = f"{encode(strict_json.encode(header))}.{encode(payload)}"
    data = signing_input.encode()
    if key is None:
        signature = b""
    elif isinstance(key, bytes):
        signature = hmac.digest(key, data, hashlib.sha256)
    else:
        signature = key.sign(data)
    return f"{signing_input}.{encode(signature)}"
