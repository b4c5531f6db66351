"""DPoP proofs: proofs that the sender of a request has a key (RFC 9449)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import (
    PUBLIC_KEY_ALGORITHMS,
    Algorithm,
    VerificationKeyMaterial,
    Verify,
    verifier_for,
)
from token_service.tokens.base64url import decode, encode
from token_service.tokens.claims import MAX_NUMERIC_DATE
from token_service.tokens.http_uri import normalized
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk, public_jwk
from token_service.tokens.strict_json import decode_object

MAX_PROOF_BYTES: Final = 8 * 1024
MAX_PROOF_ID: Final = 256
MAX_PROOF_RSA_BITS: Final = 4096
"""The limit of the modulus. Strangers choose the keys of proofs, and one of 8192 bits takes 4 ms to verify, one of 4096 0.4 ms."""
PROOF_TYPE: Final = "dpop+jwt"
DPOP_ALGORITHMS: Final = tuple(each.value for each in PUBLIC_KEY_ALGORITHMS)
"""The accepted values of `alg`: those of asymmetric keys."""
_HEADERS: Final = frozenset({"typ", "alg", "jwk"})
_JWK_MEMBERS: Final = frozenset(
    {
        "kty",
        "crv",
        "x",
        "y",
        "n",
        "e",
        "alg",
        "use",
        "key_ops",
        "kid",
        "d",
        "p",
        "q",
        "dp",
        "dq",
        "qi",
        "oth",
        "k",
    }
)
_MAX_KNOWN_KEYS: Final = 1024


@dataclass(frozen=True, slots=True)
class DpopProof:
    """A proof whose signature is verified and that belongs to the request and the token."""

    jkt: str
    """The thumbprint of the key (RFC 7638), base64url, 43 characters."""
    proof_id: str = field(repr=False)
    """`jti`: a recipient accepts it once."""
    issue_time: float
    """`iat`."""
    nonce: str | None = field(repr=False)
    """`nonce`; None: the proof has none."""
    is_of_token: bool
    """Whether the proof has `ath`: it was made for a request that presents an access token."""


def verify_proof(
    proof: str,
    *,
    method: str,
    uri: str,
    access_token: str | None,
    algorithms: Collection[Algorithm] = PUBLIC_KEY_ALGORITHMS,
) -> DpopProof:
    """Verify a proof for a request (RFC 9449, section 4.3).

    `uri` is that of the request; its query and fragment do not matter. `access_token` is the token that the request
    presents; None: it presents none, as at a token endpoint. `algorithms` are the accepted ones. Does not check `iat`, `nonce` and the repetition of `jti`,
    which need the time and memory. Raises `InvalidTokenError` with PROOF_INVALID.
    """
    if len(proof) > MAX_PROOF_BYTES:
        raise invalid_proof(f"longer than {MAX_PROOF_BYTES} bytes")
    try:
        header, payload, signature_text = proof.encode("ascii").split(b".")
        signature = decode(signature_text)
    except ValueError:
        raise invalid_proof("not a JWS in compact form") from None
    jkt, algorithm, verify = _key_of(header)
    if algorithm not in algorithms:
        raise invalid_proof(f"alg is none of {', '.join(algorithms)}")
    if not verify(signature, header + b"." + payload):
        raise invalid_proof("the signature does not verify")
    try:
        claims = decode_object(decode(payload))
    except ValueError:
        raise invalid_proof("the payload is not a JSON object") from None
    proof_id, issue_time, nonce = claims.get("jti"), claims.get("iat"), claims.get("nonce")
    if not isinstance(proof_id, str) or not 0 < len(proof_id) <= MAX_PROOF_ID:
        raise invalid_proof(f"jti is missing or longer than {MAX_PROOF_ID} characters")
    if type(issue_time) not in {int, float} or not 0 <= issue_time <= MAX_NUMERIC_DATE:  # type: ignore[operator]
        raise invalid_proof("iat is missing or no time")
    if nonce is not None and not isinstance(nonce, str):
        raise invalid_proof("nonce is not a text")
    if claims.get("htm") != method:
        raise invalid_proof("htm is not the method of the request")
    if not _is_same_uri(claims.get("htu"), uri):
        raise invalid_proof("htu is not the URI of the request")
    if access_token is not None and not _is_hash_of(claims.get("ath"), access_token):
        raise invalid_proof("ath is not the hash of the access token")
    return DpopProof(jkt, proof_id, float(issue_time), nonce, "ath" in claims)  # type: ignore[arg-type]


def parse_proof_key(jwk: Mapping[str, Any]) -> tuple[Algorithm, VerificationKeyMaterial]:
    """Return the algorithm and the key of a JWK that may verify proofs. Raises `UnusableKeyError`."""
    _, algorithm, material = parse_public_jwk(jwk)
    if isinstance(material, RSAPublicKey) and material.key_size > MAX_PROOF_RSA_BITS:
        raise UnusableKeyError(f"an RSA key of a DPoP proof may have at most {MAX_PROOF_RSA_BITS} bits")
    return algorithm, material


def unverified_uri(proof: str) -> str:
    """Return `htu` of a proof that is not verified; empty without one.

    A recipient with several names finds out which of them the sender used. It must still verify the proof for this URI.
    """
    if len(proof) > MAX_PROOF_BYTES:
        return ""
    try:
        claimed = decode_object(decode(proof.encode("ascii").split(b".")[1])).get("htu")
    except (ValueError, IndexError):
        return ""
    return claimed if isinstance(claimed, str) else ""


def access_token_hash(access_token: str) -> str:
    """Return `ath`: the SHA-256 of an access token, base64url (RFC 9449, section 4.2)."""
    return encode(hashlib.sha256(access_token.encode("ascii", "replace")).digest())


def invalid_proof(message: str) -> InvalidTokenError:
    """Return the error for a DPoP proof that is not accepted."""
    return InvalidTokenError(InvalidReason.PROOF_INVALID, f"DPoP proof: {message}")


# The header of a client is the same in all its proofs. The cache saves two thirds of a verification. A fault is not cached.
@lru_cache(_MAX_KNOWN_KEYS)
def _key_of(text: bytes) -> tuple[str, Algorithm, Verify]:
    """Return the thumbprint of the key in a header, its algorithm, and its function to verify."""
    try:
        header = decode_object(decode(text))
    except ValueError:
        raise invalid_proof("the header is not a JSON object") from None
    typ, jwk, alg = header.get("typ"), header.get("jwk"), header.get("alg")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") != PROOF_TYPE:
        raise invalid_proof(f"typ is not {PROOF_TYPE}")
    other = header.keys() - _HEADERS
    if other:
        raise invalid_proof("the header has members other than typ, alg and jwk")
    if not isinstance(jwk, dict) or not isinstance(alg, str) or alg not in DPOP_ALGORITHMS:
        raise invalid_proof(f"jwk is missing, or alg is none of {', '.join(DPOP_ALGORITHMS)}")
    members = {name: value for name, value in jwk.items() if name in _JWK_MEMBERS}
    try:
        if jwk.get("alg", alg) != alg:
            raise UnusableKeyError("alg is not that of the header")
        algorithm, material = parse_proof_key({**members, "kid": "proof", "alg": alg})
        if algorithm.value != alg:
            raise UnusableKeyError(f"alg is not {algorithm.value}")
    except UnusableKeyError as error:
        raise invalid_proof(f"jwk: {error}") from None
    return public_jwk(material)["kid"], algorithm, verifier_for(material, algorithm)


def _is_same_uri(claimed: object, uri: str) -> bool:
    if not isinstance(claimed, str):
        return False
    try:
        return claimed == uri or normalized(claimed) == normalized(uri)
    except ValueError:
        return False


def _is_hash_of(claimed: object, access_token: str) -> bool:
    return isinstance(claimed, str) and hmac.compare_digest(
        claimed.encode("utf-8", "replace"), access_token_hash(access_token).encode("ascii")
    )
