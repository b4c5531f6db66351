"""Strict verification of JWTs (RFC 7515, RFC 7519, RFC 8725, RFC 9068).

`Verifier` makes the checks needed once per token: size, form, header, key, signature, issuer, types of the claims.
The functions `check_…` make the checks needed on every use: times, audience, scopes. `RevocationSet.find` checks
revocation.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.base64url import decode
from token_service.tokens.claims import TokenKind, VerifiedClaims, malformed, seal_claims
from token_service.tokens.key_set import KeySet, VerificationKey
from token_service.tokens.strict_json import decode_object

MAX_TOKEN_BYTES: Final = 16 * 1024
EARLY_LEEWAY: Final = 5.0
"""Seconds by which a token may be used early, because the clock of its issuer may be ahead.

Expiry has no such allowance.
"""
_MAX_KNOWN_HEADERS: Final = 256

# A token is refused if its header carries a key or a critical extension (RFC 8725, section 3.10; RFC 7515, section
# 4.1.11), or another encoding of the payload (RFC 7797, RFC 7516).
_REFUSED_HEADERS: Final = frozenset({"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"})

_AT_JWT: Final = frozenset({"at+jwt", "application/at+jwt"})
_JWT: Final = frozenset({"jwt", "application/jwt"})
_TRANSACTION: Final = frozenset({"txntoken+jwt", "application/txntoken+jwt"})


@dataclass(frozen=True, slots=True)
class IssuerRules:
    """The requirements on the tokens of an issuer. Every option is explicit (RFC 8725, section 3)."""

    issuer: str
    """`iss`, compared exactly."""
    algorithms: frozenset[Algorithm]
    """The accepted algorithms. A key verifies only with its own algorithm, and only if that algorithm is accepted."""
    token_kinds: frozenset[TokenKind] = frozenset({TokenKind.ACCESS, TokenKind.ID})
    """The accepted kinds of tokens, determined by `typ`."""
    plain_kind: TokenKind = TokenKind.ID
    """The kind of a token with the `typ` `JWT`.

    Many issuers use this `typ` or none for access tokens. Set ACCESS for such an issuer; only the audience then
    distinguishes its access tokens from its ID tokens.
    """
    typ_required: bool = True
    """Whether a token without `typ` is refused. Otherwise its kind is `plain_kind`."""


_Known: TypeAlias = tuple[VerificationKey, TokenKind, bool]
"""The result of a header check: the key, the kind, and whether the token promises the claims of RFC 9068."""


class _Trust:
    """The rules and the current keys of one issuer. The header cache belongs to exactly one key set."""

    __slots__ = ("rules", "state")

    def __init__(self, rules: IssuerRules, key_set: KeySet) -> None:
        self.rules = rules
        self.state: tuple[KeySet, dict[bytes, _Known]] = (key_set, {})


class Verifier:
    """A verifier of JWTs from one or several issuers. It is thread-safe, does no I/O and reads no clock."""

    __slots__ = ("_by_issuer", "_only", "generation")

    def __init__(self, trusts: Sequence[tuple[IssuerRules, KeySet]]) -> None:
        if not trusts:
            raise ValueError("a verifier needs at least one issuer")
        self._by_issuer = {rules.issuer: _Trust(rules, key_set) for rules, key_set in trusts}
        if len(self._by_issuer) != len(trusts):
            raise ValueError("an issuer is named twice")
        self._only = next(iter(self._by_issuer.values())) if len(trusts) == 1 else None
        self.generation = 0
        """A number that changes with every change of a key set.

        Claims verified at another generation must be verified again.
        """

    def replace_key_set(self, issuer: str, key_set: KeySet) -> None:
        """Replace the keys of an issuer. Raises `KeyError` for an issuer that is not trusted."""
        self._by_issuer[issuer].state = (key_set, {})
        self.generation += 1

    def key_set(self, issuer: str) -> KeySet:
        """Return the current keys of an issuer. Raises `KeyError` for an issuer that is not trusted."""
        return self._by_issuer[issuer].state[0]

    def verify(self, token: str) -> VerifiedClaims:
        """Verify signature, form and issuer of a token, and return its claims.

        Does not check times, audience, scopes and revocation. Raises `InvalidTokenError` with TOO_LARGE, MALFORMED,
        UNKNOWN_KEY, BAD_SIGNATURE, WRONG_ISSUER or WRONG_TYPE.
        """
        try:
            if len(token) > MAX_TOKEN_BYTES:
                raise InvalidTokenError(InvalidReason.TOO_LARGE, f"longer than {MAX_TOKEN_BYTES} bytes")
            signing_input, _, signature_text = token.encode("ascii").rpartition(b".")
            header, _, payload_text = signing_input.partition(b".")
            signature = decode(signature_text)
        except (ValueError, TypeError, AttributeError):  # the latter two: the token is not a text
            raise malformed("not a JWS in compact form") from None
        trust = self._only
        if trust is None:
            issuer = _unverified_payload(payload_text).get("iss")
            trust = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
            if trust is None:
                raise InvalidTokenError(InvalidReason.WRONG_ISSUER, "the issuer is not trusted")
        key_set, headers = trust.state
        known = headers.get(header)
        new = known is None
        if known is None:
            _require_three_parts(payload_text)
            known = _check_header(header, trust.rules, key_set)
        key, kind, profiled = known
        if not key.verify(signature, signing_input):
            _require_three_parts(payload_text)
            raise InvalidTokenError(InvalidReason.BAD_SIGNATURE, "the signature does not verify")
        # Cache the header only after the signature is verified, so that an attacker can't fill the cache.
        if new and len(headers) < _MAX_KNOWN_HEADERS:
            headers[header] = known
        try:
            payload = decode(payload_text)
        except ValueError:
            raise malformed("the payload is not a JSON object") from None
        claims = seal_claims(payload, kind, key.key_id, profiled)
        if claims.issuer != trust.rules.issuer:
            raise InvalidTokenError(InvalidReason.WRONG_ISSUER, "the token is from another issuer")
        return claims

    def unverified_issuer(self, token: str) -> str | None:
        """Return the trusted issuer whose keys would verify the token, or None if the token names no trusted issuer.

        The result is not verified and proves nothing.
        """
        if self._only is not None:
            return self._only.rules.issuer
        try:
            issuer = _unverified_payload(token.encode("ascii").split(b".")[1]).get("iss")
        except (ValueError, IndexError, AttributeError, InvalidTokenError):
            return None
        return issuer if isinstance(issuer, str) and issuer in self._by_issuer else None


def check_times(claims: VerifiedClaims, now: float, leeway: float = 0) -> None:
    """Raise EXPIRED or NOT_YET_VALID unless the token is valid at `now`.

    `leeway` seconds are allowed at both ends, and at least `EARLY_LEEWAY` seconds before the beginning.
    """
    if claims.expire_time <= now - leeway:
        raise InvalidTokenError(InvalidReason.EXPIRED, "the token has expired")
    latest = now + max(leeway, EARLY_LEEWAY)
    if claims.not_before > latest or claims.issue_time > latest:
        raise InvalidTokenError(InvalidReason.NOT_YET_VALID, "the token is not valid yet")


def check_audience(claims: VerifiedClaims, audience: str) -> None:
    """Raise WRONG_AUDIENCE unless `audience` is an audience of the token."""
    if audience not in claims.audience:
        raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE, "the token is for another audience")


def check_scopes(claims: VerifiedClaims, required: Collection[str] | AbstractSet[str]) -> None:
    """Raise INSUFFICIENT_SCOPE unless the token has every required scope."""
    if not claims.scopes.issuperset(required):
        raise InvalidTokenError(InvalidReason.INSUFFICIENT_SCOPE, "the token lacks a required scope")


def _require_three_parts(middle: bytes) -> None:
    """Raise MALFORMED unless the text between the first and the last dot is one part.

    Called only for refused tokens and new headers: no signature verifies over a text with more or fewer parts.
    """
    if not middle or b"." in middle:
        raise malformed("not a JWS in compact form")


def _check_header(text: bytes, rules: IssuerRules, key_set: KeySet) -> _Known:
    try:
        header = decode_object(decode(text))
    except ValueError:
        raise malformed("the header is not a JSON object") from None
    refused = _REFUSED_HEADERS.intersection(header)
    if refused:
        raise malformed(f"the header has {min(refused)}")
    typ, kid, alg = header.get("typ"), header.get("kid"), header.get("alg")
    typ = typ.lower() if isinstance(typ, str) else None
    profiled = typ in _AT_JWT
    kind: TokenKind | None = None
    if profiled:
        kind = TokenKind.ACCESS
    elif typ in _TRANSACTION:
        kind = TokenKind.TRANSACTION
    elif typ in _JWT or ("typ" not in header and not rules.typ_required):
        kind = rules.plain_kind
    if kind is None or kind not in rules.token_kinds:
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, "typ is none of the expected ones")
    if not isinstance(kid, str) or not isinstance(alg, str):
        raise malformed("the header lacks alg or kid")
    keys = key_set.get(kid)
    if not keys:
        raise InvalidTokenError(InvalidReason.UNKNOWN_KEY, "no key with this kid")
    key = keys.get(alg)
    if key is None or key.algorithm not in rules.algorithms:
        raise InvalidTokenError(InvalidReason.BAD_SIGNATURE, "the key is not for this algorithm")
    return key, kind, profiled


def _unverified_payload(text: bytes) -> dict[str, Any]:
    try:
        return decode_object(decode(text))
    except ValueError:
        raise malformed("the payload is not a JSON object") from None
