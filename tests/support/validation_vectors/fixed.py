"""Keys, times and tokens that are the same in every run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.hostile_tokens import NOW
from tests.support.token_mint import AUDIENCE, ISSUER, Mint, PrivateKey
from token_service.tokens.base64url import encode
from token_service.tokens.jwk import public_jwk

DIRECTORY: Final = Path(__file__).resolve().parents[2] / "vectors" / "validation"
BOUND: Final = 5
"""Seconds that a proof of freshness lasts in the scenarios."""

_JWKS: Final[dict[str, dict[str, Any]]] = json.loads(
    (DIRECTORY / "private_keys.json").read_text(encoding="utf-8")
)["keys"]
_READERS: Final[dict[str, Any]] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
_ALGORITHMS: Final = {"rs256": "RS256", "es256": "ES256", "eddsa": "EdDSA"}


def key(name: str) -> PrivateKey:
    """Return a key of `private_keys.json`."""
    jwk = _JWKS[name]
    return cast("PrivateKey", _READERS[jwk["kty"]].from_jwk(jwk))


def weak_jwk() -> dict[str, str]:
    """Return the public RSA key of 1024 bits, which a validator must leave out."""
    numbers = cast("rsa.RSAPrivateKey", key("rsa-1024")).public_key().public_numbers()
    return {
        "kty": "RSA",
        "kid": "rsa-1024",
        "use": "sig",
        "alg": "RS256",
        "n": encode(numbers.n.to_bytes(128)),
        "e": encode(numbers.e.to_bytes(3)),
    }


def p384_jwk() -> dict[str, str]:
    """Return the public key on P-384, which a validator must leave out."""
    numbers = cast("ec.EllipticCurvePrivateKey", key("p-384")).public_key().public_numbers()
    x, y = encode(numbers.x.to_bytes(48)), encode(numbers.y.to_bytes(48))
    return {"kty": "EC", "kid": "p-384", "use": "sig", "alg": "ES256", "crv": "P-384", "x": x, "y": y}


class FixedMint(Mint):
    """A mint whose key and tokens are the same in every run."""

    def __init__(self, name: str, kid: str | None = None) -> None:
        self.algorithm = _ALGORITHMS.get(name, "ES256")
        self.key = key(name)
        self.jwk = public_jwk(self.key.public_key())
        if kid is not None:
            self.jwk["kid"] = kid
        self.issuer = ISSUER

    def claims(self, now: float, /, **changes: Any) -> dict[str, Any]:
        """Return claims as `Mint` does, but with the same `jti` in every call."""
        self._number = 0
        return super().claims(now, **changes)


MINTS: Final = {name: FixedMint(name) for name in _ALGORITHMS}


def key_set(revision: int, jwks: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a `KeySet` in the JSON form of Protocol Buffers."""
    return {"revision": str(revision), "issuer": ISSUER, "keys": jwks}


KEY_SET: Final = key_set(1, [mint.jwk for mint in MINTS.values()])

__all__ = ["AUDIENCE", "BOUND", "ISSUER", "KEY_SET", "MINTS", "NOW", "FixedMint"]
