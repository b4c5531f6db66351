"""The signature algorithms (RFC 7518, section 3; RFC 8037). Each key has exactly one (RFC 8725, section 3.1).

The type of a key decides its algorithm, except for RSA: such a key is for PS256 if its maker says so, else for RS256.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from token_service.tokens.secret import Secret

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""The limit of the modulus. A verification with a larger modulus takes so long that attackers could deny service."""
RSA_SIZES = (2048, 3072, 4096)
"""The sizes of new RSA keys, in bits."""
MIN_HMAC_BYTES = 32


class Algorithm(StrEnum):
    """The algorithms that may sign a token. `none` is not one of them."""

    RS256 = "RS256"
    PS256 = "PS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"
    HS256 = "HS256"


PUBLIC_KEY_ALGORITHMS = tuple(each for each in Algorithm if each is not Algorithm.HS256)
"""The algorithms whose verification key is no secret."""
RSA_ALGORITHMS = frozenset({Algorithm.RS256, Algorithm.PS256})

ED25519 = "Ed25519"
"""The name of `EdDSA` with an Ed25519 key in RFC 9864, section 2.2, which others use in their keys and assertions."""

VerificationKeyMaterial: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Secret
Verify: TypeAlias = Callable[[bytes, bytes], bool]
"""`verify(signature, signing_input)` returns whether the signature is valid. It raises nothing."""

_PKCS1V15 = PKCS1v15()
_SHA256 = SHA256()
PSS_SALT_BYTES = _SHA256.digest_size
"""The only length of the salt of PS256 (RFC 7518, section 3.5)."""
PS256_PADDING = PSS(mgf=MGF1(_SHA256), salt_length=PSS_SALT_BYTES)
_ECDSA_SHA256 = ECDSA(_SHA256)


def algorithm_of(material: VerificationKeyMaterial, made_for: Algorithm | None = None) -> Algorithm:
    """Return the one algorithm of a key.

    `made_for`: the algorithm that the maker of the key names; without it an RSA key is for RS256. Raises `ValueError`
    for a key that is too weak, of an unsupported type, or unfit for `made_for`.
    """
    algorithm = _by_type(material)
    if algorithm is Algorithm.RS256 and made_for is Algorithm.PS256:
        return Algorithm.PS256
    if made_for is not None and made_for is not algorithm:
        raise ValueError(f"a key for {algorithm.value} can't be used for {made_for.value}")
    return algorithm


def _by_type(material: VerificationKeyMaterial) -> Algorithm:
    if isinstance(material, RSAPublicKey):
        if not MIN_RSA_BITS <= material.key_size <= MAX_RSA_BITS:
            raise ValueError(
                f"an RSA key must have {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {material.key_size}"
            )
        return Algorithm.RS256
    if isinstance(material, EllipticCurvePublicKey):
        if not isinstance(material.curve, SECP256R1):
            raise ValueError(f"an EC key must be on P-256, not {material.curve.name}")
        return Algorithm.ES256
    if isinstance(material, Ed25519PublicKey):
        return Algorithm.EDDSA
    if isinstance(material, Secret):
        if len(material.reveal()) < MIN_HMAC_BYTES:
            raise ValueError(f"an HMAC key must have at least {MIN_HMAC_BYTES} bytes")
        return Algorithm.HS256
    raise ValueError(f"no algorithm for {type(material).__name__}")


def verifier_for(material: VerificationKeyMaterial, made_for: Algorithm | None = None) -> Verify:
    """Return a function that verifies signatures of a key with the one algorithm of the key.

    See `algorithm_of` for `made_for` and the errors.
    """
    algorithm = algorithm_of(material, made_for)
    if isinstance(material, RSAPublicKey):
        return _ps256(material) if algorithm is Algorithm.PS256 else _rs256(material)
    if isinstance(material, EllipticCurvePublicKey):
        return _es256(material)
    if isinstance(material, Ed25519PublicKey):
        return _eddsa(material)
    return _hs256(material)


def verifier_for_any(materials: Sequence[VerificationKeyMaterial], made_for: Algorithm) -> Verify:
    """Return a function that verifies a signature with each key of an algorithm in order until one matches."""
    verifiers = tuple(verifier_for(material, made_for) for material in materials)
    if len(verifiers) == 1:
        return verifiers[0]
    return lambda signature, signing_input: any(verify(signature, signing_input) for verify in verifiers)


def _rs256(key: RSAPublicKey) -> Verify:
    raw = key.verify

    def verify(signature: bytes, signing_input: bytes) -> bool:
        try:
            raw(signature, signing_input, _PKCS1V15, _SHA256)
        except InvalidSignature:
            return False
        return True

    return verify


def _ps256(key: RSAPublicKey) -> Verify:
    raw = key.verify
    size = (key.key_size + 7) // 8

    def verify(signature: bytes, signing_input: bytes) -> bool:
        # OpenSSL takes a signature without its leading zero bytes, which RFC 8017, section 8.1.2, step 1 forbids.
        if len(signature) != size:
            return False
        try:
            raw(signature, signing_input, PS256_PADDING, _SHA256)
        except InvalidSignature:
            return False
        return True

    return verify


def _es256(key: EllipticCurvePublicKey) -> Verify:
    raw = key.verify

    def verify(signature: bytes, signing_input: bytes) -> bool:
        if len(signature) != 64:  # r and s, 32 bytes each (RFC 7518, section 3.4)
            return False
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        try:
            raw(encode_dss_signature(r, s), signing_input, _ECDSA_SHA256)
        except InvalidSignature:
            return False
        return True

    return verify


def _eddsa(key: Ed25519PublicKey) -> Verify:
    raw = key.verify

    def verify(signature: bytes, signing_input: bytes) -> bool:
        try:
            raw(signature, signing_input)
        except InvalidSignature:
            return False
        return True

    return verify


def _hs256(key: Secret) -> Verify:
    def verify(signature: bytes, signing_input: bytes) -> bool:
        return hmac.compare_digest(hmac.digest(key.reveal(), signing_input, hashlib.sha256), signature)

    return verify
