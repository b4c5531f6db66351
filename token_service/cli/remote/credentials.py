"""How a command proves its caller to the service: metadata that each call gets."""

from __future__ import annotations

import json
import re
import secrets
import time
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote_plus

from token_service.errors import ConfigurationError
from token_service.files import read_regular
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

Metadata = tuple[tuple[str, str], ...]
_MAX_SECRET: Final = 64 * 1024
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE: Final = 60
_TOKEN: Final = re.compile(rb"[!-~]+").fullmatch
_ALGORITHMS: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}


class CallerProof(Protocol):
    """A proof of the caller."""

    def metadata(self) -> Metadata:
        """Return the metadata of one call."""
        ...


class NoProof:
    """No metadata: the caller proves itself with a client certificate, or not at all."""

    def metadata(self) -> Metadata:
        """Return nothing."""
        return ()


class ClientSecretProof:
    """The id and the secret of a registered client (`client_secret_basic`)."""

    def __init__(self, client_id: str, secret: Secret) -> None:
        self._client_id = client_id
        self._secret = secret

    def metadata(self) -> Metadata:
        """Return the credentials in `authorization` (RFC 6749, section 2.3.1)."""
        pair = f"{quote_plus(self._client_id)}:{quote_plus(self._secret.reveal())}"
        return (("authorization", f"Basic {b64encode(pair.encode()).decode()}"),)


class ClientAssertionProof:
    """The key of a registered client (`private_key_jwt`). Each call gets an assertion of its own, which counts once."""

    def __init__(self, client_id: str, issuer: str, key: Secret) -> None:
        """Raises `ConfigurationError` for a key that is neither a PEM nor a JWK, or that can't sign."""
        import jwt

        self._client_id = client_id
        self._issuer = issuer
        self._key, self._algorithm, self._key_id = _load_key(key.reveal())
        try:
            self.metadata()
        except (jwt.PyJWTError, TypeError, ValueError):
            raise ConfigurationError(
                f"client_key can't sign with {self._algorithm}; use an RSA key, an EC key on P-256 or an Ed25519 key, and a "
                "text as the kid of a JWK"
            ) from None

    def metadata(self) -> Metadata:
        """Return an assertion (RFC 7523, section 2.2)."""
        import jwt

        now = int(time.time())
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": self._issuer,
            "iat": now,
            "exp": now + _ASSERTION_LIFE,
            "jti": secrets.token_urlsafe(16),
        }
        headers = {"kid": self._key_id} if self._key_id else None
        assertion = jwt.encode(claims, self._key, self._algorithm, headers)  # type: ignore[arg-type]
        return ("client-assertion-type", _ASSERTION_TYPE), ("client-assertion", assertion)


class AccessTokenProof:
    """An access token of the service, or a token of a workload issuer."""

    def __init__(self, token: Secret) -> None:
        """Raises `ConfigurationError` for a text that no header can carry, such as one of several lines."""
        if _TOKEN(token.reveal()) is None:
            raise ConfigurationError(
                "access_token is no token: it has characters other than visible ASCII ones"
            )
        self._token = token

    def metadata(self) -> Metadata:
        """Return the token in `authorization` (RFC 6750, section 2.1)."""
        return (("authorization", f"Bearer {self._token.reveal().decode()}"),)


def caller_proof(values: Mapping[str, str]) -> CallerProof:
    """Return the proof that the values of a connection describe. Raises `ConfigurationError`."""
    given = [
        name
        for name in ("client_secret", "client_key", "access_token")
        if values.get(name) or values.get(f"{name}_file")
    ]
    if len(given) > 1:
        raise ConfigurationError(
            f"the caller has several proofs: {', '.join(given)}; the service accepts one, so remove the others"
        )
    if not given:
        return NoProof()
    secret = _secret(values, given[0])
    if given[0] == "access_token":
        return AccessTokenProof(secret)
    if not (client_id := values.get("client_id", "")):
        raise ConfigurationError(f"{given[0]} needs the client_id; set TOKEN_SERVICE_CLIENT_ID")
    if given[0] == "client_secret":
        return ClientSecretProof(client_id, secret)
    if not (issuer := values.get("issuer", "")):
        raise ConfigurationError(
            "client_key needs the issuer of the service, for which its assertions are made; set TOKEN_SERVICE_ISSUER"
        )
    return ClientAssertionProof(client_id, issuer, secret)


def _secret(values: Mapping[str, str], name: str) -> Secret:
    if text := values.get(name, ""):
        if values.get(f"{name}_file"):
            raise ConfigurationError(f"{name} and {name}_file are both set; remove one")
        return Secret(text.encode())
    path = Path(values[f"{name}_file"]).expanduser()
    try:
        content = read_regular(path, _MAX_SECRET).strip()
    except OSError as error:
        raise ConfigurationError(f"{name}_file: {path} can't be read: {error.strerror}") from None
    if not content:
        raise ConfigurationError(f"{name}_file: {path} is empty")
    return Secret(content)


def _load_key(content: bytes) -> tuple[PrivateKeyTypes, str, str]:
    """Return a private key, its algorithm and its id; the id is empty for a PEM."""
    import jwt
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if content.lstrip().startswith(b"{"):
            document: dict[str, Any] = json.loads(content)
            if "d" not in document:
                raise ConfigurationError("client_key is a public key; give the private key")
            jwk = jwt.PyJWK(document, document.get("alg") or _ALGORITHMS.get(document.get("kty", "")))
            return jwk.key, jwk.algorithm_name, document.get("kid", "")
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, NotImplementedError, UnsupportedAlgorithm, jwt.PyJWTError):
        raise ConfigurationError(
            "client_key is neither a private key in PEM without a password nor a JWK"
        ) from None
    if isinstance(key, RSAPrivateKey):
        return key, "RS256", ""
    return key, "ES256" if isinstance(key, EllipticCurvePrivateKey) else "EdDSA", ""
