"""Tokens for tests: well-formed by default, broken on request."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from token_service.tokens.algorithms import RSA_ALGORITHMS, Algorithm
from token_service.tokens.jwk import public_jwk

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ISSUER = "https://issuer.test"
AUDIENCE = "api"
ES256 = ec.ECDSA(SHA256(), deterministic_signing=True)
"""ECDSA with the nonce of RFC 6979, so that a key and a text have one signature."""


def b64(data: bytes) -> str:
    """Encode as base64url without padding, by the standard library."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def private_key(algorithm: str, name: str = "first") -> PrivateKey:
    """Return a key for the algorithm, the same for the same name within a test run."""
    if algorithm in RSA_ALGORITHMS:
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def jwk_of(key: PrivateKey, algorithm: str | None = None) -> dict[str, Any]:
    """Return the public JWK. `algorithm`: what an RSA key is for; by default RS256."""
    return public_jwk(key.public_key(), None if algorithm is None else Algorithm(algorithm))


def sign(key: PrivateKey | bytes, data: bytes, algorithm: str | None = None) -> bytes:
    """Return the JWS signature with the key's algorithm. Bytes are an HS256 secret. For `algorithm` see `jwk_of`."""
    if isinstance(key, bytes):
        return hmac.digest(key, data, hashlib.sha256)
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm == "PS256":
            return key.sign(data, padding.PSS(padding.MGF1(SHA256()), 32), SHA256())
        return key.sign(data, padding.PKCS1v15(), SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(data, ES256))
        return r.to_bytes(32) + s.to_bytes(32)
    return key.sign(data)


class Mint:
    """Issues tokens as the service does, signed with one key."""

    def __init__(self, algorithm: str = "ES256", name: str = "first", issuer: str = ISSUER) -> None:
        self.algorithm = algorithm
        self.key = private_key(algorithm, name)
        self.jwk = jwk_of(self.key, algorithm)
        self.issuer = issuer
        self._number = 0

    def claims(self, now: float, /, **changes: Any) -> dict[str, Any]:
        """Return claims of an access token that lives for 900 s. A change to `...` omits the claim."""
        self._number += 1
        claims = {
            "iss": self.issuer,
            "sub": "user-1",
            "aud": [AUDIENCE],
            "exp": int(now) + 900,
            "iat": int(now),
            "nbf": int(now),
            "jti": f"token-{self._number}",
            "client_id": "web",
            "rev": 0,
            "scope": "read write",
            "sid": "0b6f1a0e-5b5c-4f0e-9a53-111111111111",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not ...}

    def token(self, now: float, /, header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """Return a signed access token. `header` and keywords change members or, with `...`, omit them."""
        return self.token_of(json.dumps(self.claims(now, **changes), separators=(",", ":")).encode(), header)

    def token_of(self, payload: bytes, header: Mapping[str, Any] | None = None) -> str:
        """Sign any bytes as a payload."""
        members = {"alg": self.algorithm, "typ": "at+jwt", "kid": self.jwk["kid"], **(header or {})}
        return self.raw(json.dumps({n: v for n, v in members.items() if v is not ...}).encode(), payload)

    def raw(self, header: bytes, payload: bytes, key: PrivateKey | bytes | None = None) -> str:
        """Sign any bytes as header and payload."""
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(sign(self.key if key is None else key, signing_input.encode(), self.algorithm))}"
