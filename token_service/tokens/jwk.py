"""JSON Web Keys (RFC 7517) and their thumbprints (RFC 7638)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError
from jwt.utils import from_base64url_uint

from token_service.tokens import strict_json
from token_service.tokens.algorithms import ED25519, Algorithm, VerificationKeyMaterial, algorithm_of
from token_service.tokens.base64url import encode
from token_service.tokens.weak_rsa import weakness_of

_THUMBPRINT_MEMBERS = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_MAX_MEMBER = 16 * 1024


class UnusableKeyError(ValueError):
    """A JWK that must not verify tokens. The message names the reason."""


class WeakKeyError(UnusableKeyError):
    """A JWK that is meant to verify tokens but is too weak."""


def public_jwk(material: VerificationKeyMaterial, made_for: Algorithm | None = None) -> dict[str, Any]:
    """Return the JWK of a public key, with `use`, `alg` and its thumbprint as `kid`.

    Raises `ValueError` for a secret, and like `algorithm_of`, which explains `made_for`.
    """
    algorithm = algorithm_of(material, made_for)
    jwk: dict[str, Any]
    if isinstance(material, RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(material, as_dict=True)
    elif isinstance(material, EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(material, as_dict=True)
    elif isinstance(material, Ed25519PublicKey):
        jwk = OKPAlgorithm.to_jwk(material, as_dict=True)
    else:
        raise ValueError("a symmetric key has no public part")
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS[jwk["kty"]]}
    return {**members, "kid": thumbprint(members), "use": "sig", "alg": algorithm.value}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a JWK (RFC 7638) as base64url, 43 characters."""
    members = {name: jwk[name] for name in _THUMBPRINT_MEMBERS[jwk["kty"]]}  # already in lexicographic order
    return encode(hashlib.sha256(strict_json.encode(members)).digest())


def parse_public_jwk(jwk: Mapping[str, Any]) -> tuple[str, Algorithm, VerificationKeyMaterial]:
    """Return the `kid`, the algorithm and the key of a JWK that may verify tokens.

    Raises `UnusableKeyError` for a JWK without `kid`, with a use other than to verify signatures, with private
    members, of an unsupported type or size, or with an `alg` other than the one algorithm of its key: an RSA key is
    for PS256 if its `alg` says so, else for RS256. Raises `WeakKeyError` for an RSA key that an attacker can break.
    """
    for name, value in jwk.items():
        if isinstance(value, str) and len(value) > _MAX_MEMBER:
            raise UnusableKeyError(f"{name} is too long")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= 256:
        raise UnusableKeyError("no usable kid")
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise UnusableKeyError("has private members")
    if jwk.get("use", "sig") != "sig":
        raise UnusableKeyError("use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations or len(operations) > 1:
        raise UnusableKeyError("key_ops is not verify alone")
    material = _material(jwk)
    try:
        algorithm = algorithm_of(material)
    except ValueError as error:
        raise UnusableKeyError(str(error)) from None
    if algorithm is Algorithm.RS256 and jwk.get("alg") == Algorithm.PS256.value:
        algorithm = Algorithm.PS256
    if jwk.get("alg", algorithm.value) not in _names(algorithm):
        raise UnusableKeyError(f"alg is not {algorithm.value}")
    return kid, algorithm, material


def _names(algorithm: Algorithm) -> tuple[str, ...]:
    """Return the values of `alg` that a key of this algorithm may have."""
    return (algorithm.value, ED25519) if algorithm is Algorithm.EDDSA else (algorithm.value,)


def _material(jwk: Mapping[str, Any]) -> VerificationKeyMaterial:
    kty = jwk.get("kty")
    try:
        if kty == "RSA":
            key: object = _rsa_key(jwk["n"], jwk["e"])
        elif kty == "EC":
            key = ECAlgorithm.from_jwk(dict(jwk))
        elif kty == "OKP":
            key = OKPAlgorithm.from_jwk(dict(jwk))
        else:
            raise UnusableKeyError("kty is none of RSA, EC, OKP")
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, UnusableKeyError):
            raise
        raise UnusableKeyError("is not a valid key") from None
    if isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        return key
    raise UnusableKeyError("is not a supported public key")


def _rsa_key(modulus: str, exponent: str) -> RSAPublicKey:
    numbers = RSAPublicNumbers(from_base64url_uint(exponent), from_base64url_uint(modulus))
    # This check comes first, because the library only reports that the numbers are invalid.
    weakness = weakness_of(numbers)
    if weakness is not None:
        raise WeakKeyError(weakness)
    return numbers.public_key()
