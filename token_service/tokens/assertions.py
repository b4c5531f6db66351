"""Verification of assertions: JWTs by which a client or a workload proves its identity (RFC 7523; SPIFFE JWT-SVID).

Unlike access tokens they may lack `iss`, `jti` or `kid`, and each profile has rules of its own. `verify_assertion`
checks what all profiles share: size, form, header, algorithm, signature and times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import ED25519, PUBLIC_KEY_ALGORITHMS, Algorithm
from token_service.tokens.base64url import decode
from token_service.tokens.claims import MAX_NUMERIC_DATE, malformed
from token_service.tokens.key_set import KeySet, VerificationKey
from token_service.tokens.strict_json import decode_object

MAX_ASSERTION_BYTES: Final = 8 * 1024
ASSERTION_LEEWAY: Final = 10.0
"""Seconds by which the clock of the signer may be ahead (FAPI 2.0 Security Profile, section 5.3.2.1, item 13)."""
_MAX_KEYS_WITHOUT_KID: Final = 4
"""Keys that are tried for an assertion without `kid`. The limit bounds the cost of a forged one."""
_REFUSED_HEADERS: Final = frozenset({"crit", "jwk", "jku", "x5u", "b64", "zip", "enc"})
ASSERTION_ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType(
    {
        **{each.value: each for each in PUBLIC_KEY_ALGORITHMS},
        ED25519: Algorithm.EDDSA,
    }
)
"""The accepted values of `alg`."""


@dataclass(frozen=True, slots=True)
class UnverifiedAssertion:
    """The parts of an assertion before its verification. Nothing in it may be believed."""

    header: dict[str, Any]
    payload: dict[str, Any]
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def key_id(self) -> str | None:
        """`kid`; None: the header has none."""
        kid = self.header.get("kid")
        return kid if isinstance(kid, str) else None

    def text(self, name: str) -> str:
        """Return a claim that is a text; empty otherwise."""
        value = self.payload.get(name)
        return value if isinstance(value, str) else ""


def parse_assertion(token: str) -> UnverifiedAssertion:
    """Split an assertion into its parts. Raises `InvalidTokenError` with TOO_LARGE or MALFORMED."""
    if len(token) > MAX_ASSERTION_BYTES:
        raise InvalidTokenError(InvalidReason.TOO_LARGE, f"longer than {MAX_ASSERTION_BYTES} bytes")
    try:
        parts = token.encode("ascii").split(b".")
        header, payload, signature = map(decode, parts)
        return UnverifiedAssertion(
            decode_object(header), decode_object(payload), parts[0] + b"." + parts[1], signature
        )
    except ValueError:
        raise malformed("not a JWS in compact form with a JSON object") from None


def verify_assertion(
    parsed: UnverifiedAssertion,
    key_set: KeySet,
    *,
    now: float,
    max_lifetime: float,
    types: Collection[str] = ("JWT",),
    algorithms: Mapping[str, Algorithm] = ASSERTION_ALGORITHMS,
) -> dict[str, Any]:
    """Return the claims of an assertion.

    Its signature must verify with an asymmetric key of `key_set`, `exp` must be ahead by at most `max_lifetime`
    seconds, and neither `nbf` nor `iat` may be ahead. `types`: the accepted values of `typ`, compared without case;
    a missing `typ` is accepted. `algorithms`: the accepted values of `alg`, with their algorithms. Does not check issuer, subject, audience and `jti`.

    Raises `InvalidTokenError` with MALFORMED, WRONG_TYPE, UNKNOWN_KEY, BAD_SIGNATURE, EXPIRED or NOT_YET_VALID.
    """
    verify_signature(parsed, key_set, types=types, algorithms=algorithms)
    _check_times(parsed.payload, now, max_lifetime)
    return parsed.payload


def verify_signature(
    parsed: UnverifiedAssertion,
    key_set: KeySet,
    *,
    types: Collection[str],
    algorithms: Mapping[str, Algorithm],
) -> None:
    """Check the header of an assertion and its signature, as `verify_assertion` describes.

    Raises `InvalidTokenError` with MALFORMED, WRONG_TYPE, UNKNOWN_KEY or BAD_SIGNATURE.
    """
    header = parsed.header
    refused = _REFUSED_HEADERS.intersection(header)
    if refused:
        raise malformed(f"the header has {min(refused)}")
    typ = header.get("typ")
    if typ is not None and (
        not isinstance(typ, str)
        or typ.lower().removeprefix("application/") not in {each.lower() for each in types}
    ):
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, "typ is none of the expected ones")
    if not any(
        key.verify(parsed.signature, parsed.signing_input) for key in _candidates(parsed, key_set, algorithms)
    ):
        raise InvalidTokenError(InvalidReason.BAD_SIGNATURE, "the signature does not verify")


def audiences(claims: dict[str, Any]) -> tuple[str, ...]:
    """Return `aud` as a tuple (RFC 7519, section 4.1.3); empty if it is missing or not made of texts."""
    value = claims.get("aud")
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return ()


def date_of(payload: dict[str, Any], name: str) -> float | None:
    """Return a NumericDate, which may have a fraction (RFC 7519, section 2); None if it is missing.

    Raises `InvalidTokenError` with MALFORMED.
    """
    if name not in payload:
        return None
    value = payload[name]
    if type(value) not in {int, float} or not 0 <= value <= MAX_NUMERIC_DATE:
        raise malformed(f"{name} is not a time")
    return float(value)


def _candidates(
    parsed: UnverifiedAssertion, key_set: KeySet, algorithms: Mapping[str, Algorithm]
) -> Iterable[VerificationKey]:
    name = parsed.header.get("alg")
    algorithm = algorithms.get(name) if isinstance(name, str) else None
    if algorithm is None:
        raise InvalidTokenError(InvalidReason.BAD_SIGNATURE, "alg is none of the accepted algorithms")
    if "kid" in parsed.header:
        key = key_set.get(parsed.key_id or "").get(algorithm)
        keys = [] if key is None else [key]
    else:
        keys = [key for key in key_set if key.algorithm is algorithm][:_MAX_KEYS_WITHOUT_KID]
    if not keys:
        raise InvalidTokenError(InvalidReason.UNKNOWN_KEY, "no key for this kid and alg")
    return keys


def _check_times(payload: dict[str, Any], now: float, max_lifetime: float) -> None:
    expire_time = date_of(payload, "exp")
    if expire_time is None:
        raise malformed("exp is missing")
    if expire_time <= now:
        raise InvalidTokenError(InvalidReason.EXPIRED, "the assertion has expired")
    if expire_time > now + max_lifetime + ASSERTION_LEEWAY:
        raise malformed(f"exp is more than {max_lifetime:g} s ahead")
    for name in ("nbf", "iat"):
        date = date_of(payload, name)
        if date is not None and date > now + ASSERTION_LEEWAY:
            raise InvalidTokenError(InvalidReason.NOT_YET_VALID, f"{name} is ahead")
