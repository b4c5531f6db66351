"""Makes DPoP proofs with PyJWT, an implementation that is not ours."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm

NOW = 1_800_000_000.0
URI = "https://api.example/orders"
TOKEN = "an.access.token"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class ProofMaker:
    """A key and the proofs that it signs. `...` as a value removes a member."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.algorithm = algorithm
        self.key: Any
        if algorithm == "ES256":
            self.key = generate_private_key(SECP256R1())
            self.jwk = ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        else:
            self.key = Ed25519PrivateKey.generate()
            self.jwk = OKPAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.count = 0

    @property
    def jkt(self) -> str:
        members = "".join(
            f'"{name}":"{self.jwk[name]}",'
            for name in (("crv", "kty", "x", "y") if self.algorithm == "ES256" else ("crv", "kty", "x"))
        )
        return b64(hashlib.sha256(f"{{{members[:-1]}}}".encode()).digest())

    def proof(
        self,
        *,
        token: str | None = TOKEN,
        method: str = "GET",
        uri: str = URI,
        now: float = NOW,
        header: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        self.count += 1
        all_claims = {"jti": f"proof-{self.count}", "htm": method, "htu": uri, "iat": int(now)}
        if token is not None:
            all_claims["ath"] = b64(hashlib.sha256(token.encode()).digest())
        all_claims |= claims
        all_header = {"typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.jwk} | (header or {})
        return jwt.encode(
            {name: value for name, value in all_claims.items() if value is not ...},
            self.key,
            algorithm=self.algorithm,
            headers={
                name: None if value is ... else value for name, value in all_header.items() if name != "alg"
            },
        )
