"""How the backend-for-frontend proves its identity to the provider (OpenID Connect Core 1.0, section 9)."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from token_service.tokens.algorithms import Algorithm, algorithm_of
from token_service.tokens.secret import Secret

ASSERTION_TTL: Final = 60
"""Seconds for which a client assertion is valid."""
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class Proof:
    """What authenticates one request: headers, and fields of the form."""

    headers: dict[str, str] = field(default_factory=dict, repr=False)
    form: dict[str, str] = field(default_factory=dict, repr=False)


class ClientAuthentication(Protocol):
    """The identity of a confidential client at the provider."""

    @property
    def client_id(self) -> str:
        """`client_id` as registered."""
        ...

    @property
    def method(self) -> str:
        """The name of the method in `token_endpoint_auth_methods_supported`."""
        ...

    async def prove(self, issuer: str, now: float) -> Proof:
        """Return a proof for one request to the provider `issuer`."""
        ...


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """A client secret in the Authorization header (RFC 6749, section 2.3.1)."""

    client_id: str
    secret: Secret
    method: str = field(default="client_secret_basic", init=False)

    async def prove(self, issuer: str, now: float) -> Proof:
        """Return the header."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret.reveal())}"
        return Proof(headers={"Authorization": f"Basic {b64encode(pair.encode()).decode()}"})


@dataclass(frozen=True, slots=True)
class PrivateKeyJwt:
    """A JWT signed with a private key of the client (RFC 7523, section 2.2).

    The type of the key decides its algorithm: ES256, EdDSA or, for RSA, `RS256` unless `algorithm` is PS256.
    """

    client_id: str
    key: RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey = field(repr=False)
    key_id: str
    algorithm: Algorithm | None = None
    method: str = field(default="private_key_jwt", init=False)

    def __post_init__(self) -> None:
        algorithm_of(self.key.public_key(), self.algorithm)  # refuses keys that are too weak

    async def prove(self, issuer: str, now: float) -> Proof:
        """Return a new assertion. `aud` is the issuer alone, so no other server accepts it."""
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": issuer,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now),
            "exp": int(now) + ASSERTION_TTL,
        }
        algorithm = algorithm_of(self.key.public_key(), self.algorithm).value
        # A signature with a large RSA key takes milliseconds, in which the event loop serves others.
        assertion = await asyncio.to_thread(jwt.encode, claims, self.key, algorithm, {"kid": self.key_id})
        return Proof(form={"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion})
