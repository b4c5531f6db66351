from __future__ import annotations

import copy
import gc
import json
import random
import string
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.hostile_tokens import NOW, VECTORS, token_of
from tests.support.token_mint import AUDIENCE, ISSUER, Mint, b64, sign
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens import strict_json
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.base64url import decode
from token_service.tokens.claims import MAX_NUMERIC_DATE, TokenKind, VerifiedClaims
from token_service.tokens.key_set import KeySet, VerificationKey
from token_service.tokens.secret import Secret
from token_service.tokens.verifier import (
    IssuerRules,
    Verifier,
    check_audience,
    check_scopes,
    check_times,
)

MINT = Mint("ES256")
MINTS = {algorithm: Mint(algorithm) for algorithm in ("RS256", "PS256", "ES256", "EdDSA")}
KEYS = KeySet.from_jwks([mint.jwk for mint in MINTS.values()])
RULES = IssuerRules(ISSUER, frozenset(Algorithm))


def verifier(rules: IssuerRules = RULES, keys: KeySet = KEYS) -> Verifier:
    return Verifier([(rules, keys)])


def reason_of(check: Verifier, token: Any) -> InvalidReason:
    with pytest.raises(InvalidTokenError) as caught:
        check.verify(token)
    assert not isinstance(token, str) or len(token) < 8 or token not in str(caught.value)
    return caught.value.reason


def full_check(check: Verifier, token: str) -> VerifiedClaims:
    claims = check.verify(token)
    check_times(claims, NOW)
    check_audience(claims, AUDIENCE)
    check_scopes(claims, ["read"])
    return claims


@pytest.mark.parametrize("algorithm", MINTS)
def test_valid_token_gives_its_claims(algorithm: str) -> None:
    mint = MINTS[algorithm]
    token = mint.token(
        NOW, jti="the-id", extra={"a": [1]}, cnf={"jkt": "x" * 43}, auth_ctx={"acr": "mfa", "amr": ["pwd"]}
    )
    claims = full_check(verifier(), token)
    assert claims.kind is TokenKind.ACCESS
    assert (claims.issuer, claims.subject, claims.client_id) == (ISSUER, "user-1", "web")
    assert (claims.audience, claims.scopes) == ((AUDIENCE,), frozenset({"read", "write"}))
    assert (claims.token_id, claims.key_id, claims.revision) == ("the-id", mint.jwk["kid"], 0)
    assert (claims.issue_time, claims.not_before, claims.expire_time) == (NOW, NOW, NOW + 900)
    assert claims.custom_claims == {"extra": {"a": [1]}}
    assert claims.confirmation.jkt == "x" * 43
    assert claims.auth_context is not None
    assert claims.auth_context.amr == ("pwd",)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("issuers", [1, 2], ids=["one issuer", "two issuers"])
def test_hostile_tokens_are_refused_with_expected_reason(vector: dict[str, str], issuers: int) -> None:
    trusts = [(RULES, KEYS)]
    if issuers == 2:
        trusts.append((IssuerRules("https://other.test", frozenset(Algorithm)), KEYS))
    check = Verifier(trusts)
    token = token_of(vector, MINT)
    with pytest.raises(InvalidTokenError) as caught:
        full_check(check, token)
    if issuers == 1 or caught.value.reason != InvalidReason.WRONG_ISSUER:
        assert caught.value.reason == vector["reason"] or (
            issuers == 2 and caught.value.reason is InvalidReason.MALFORMED
        )


@pytest.mark.parametrize(
    "wrong", [None, b"a.b.c", 1, [], {}, object()], ids=lambda value: type(value).__name__
)
def test_token_that_is_not_text_is_malformed(wrong: object) -> None:
    assert reason_of(verifier(), wrong) is InvalidReason.MALFORMED


@pytest.mark.parametrize("algorithm", MINTS)
def test_token_with_any_changed_character_is_refused(algorithm: str) -> None:
    token = MINTS[algorithm].token(NOW)
    check = verifier()
    source = random.Random(algorithm)
    alphabet = string.ascii_letters + string.digits + "-_."
    for at in range(len(token)):
        other = source.choice(alphabet.replace(token[at], ""))
        reason_of(check, token[:at] + other + token[at + 1 :])
        reason_of(check, token[:at] + token[at + 1 :])
    check.verify(token)


@settings(deadline=None)
@given(
    st.text(max_size=80)
    | st.lists(st.binary(max_size=40), min_size=2, max_size=4).map(lambda p: ".".join(map(b64, p)))
)
def test_arbitrary_text_raises_only_invalid_token_error(token: str) -> None:
    reason_of(verifier(), token)


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "iss",
                "sub",
                "aud",
                "exp",
                "iat",
                "nbf",
                "jti",
                "sid",
                "scope",
                "client_id",
                "rev",
                "cnf",
                "auth_ctx",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_signed_claims_of_wrong_type_are_refused(changes: dict[str, Any]) -> None:
    token = MINT.token(NOW, **changes)
    try:
        claims = verifier().verify(token)
    except InvalidTokenError:
        return
    for time in (claims.expire_time, claims.issue_time, claims.not_before):
        assert 0 <= time <= MAX_NUMERIC_DATE
        assert type(time) is (int if time == int(time) else float)
    assert all(type(a) is str for a in claims.audience)
    assert all(type(t) is str for t in (claims.subject, claims.token_id, claims.session_id, claims.client_id))
    _ = claims.auth_context, claims.confirmation, claims.custom_claims, repr(claims)


def test_payload_that_is_not_canonical_json_is_accepted() -> None:
    payload = json.dumps(MINT.claims(NOW), indent=2).replace("user-1", "\\u0075ser-1").encode()
    assert verifier().verify(MINT.token_of(payload)).subject == "user-1"


def test_id_token_is_not_accepted_as_access_token() -> None:
    token = MINT.token(NOW, {"typ": "JWT"}, client_id=..., azp="web", jti=..., nonce="n")
    claims = verifier().verify(token)
    assert (claims.kind, claims.client_id) == (TokenKind.ID, "web")
    only_access = verifier(IssuerRules(ISSUER, frozenset(Algorithm), frozenset({TokenKind.ACCESS})))
    assert reason_of(only_access, token) is InvalidReason.WRONG_TYPE
    only_id = verifier(IssuerRules(ISSUER, frozenset(Algorithm), frozenset({TokenKind.ID})))
    assert reason_of(only_id, MINT.token(NOW)) is InvalidReason.WRONG_TYPE


@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", ...], ids=str)
def test_plain_typ_is_access_token_if_rules_say_so(typ: object) -> None:
    rules = IssuerRules(
        ISSUER, frozenset(Algorithm), frozenset({TokenKind.ACCESS}), TokenKind.ACCESS, typ_required=False
    )
    claims = verifier(rules).verify(MINT.token(NOW, {"typ": typ}, jti=..., client_id=..., azp="app"))
    assert (claims.kind, claims.client_id, claims.token_id) == (TokenKind.ACCESS, "app", "")
    assert reason_of(verifier(rules), MINT.token(NOW, {"typ": "logout+jwt"})) is InvalidReason.WRONG_TYPE


def test_unexpected_algorithm_is_refused_even_with_known_key() -> None:
    rules = IssuerRules(ISSUER, frozenset({Algorithm.RS256}))
    assert reason_of(verifier(rules), MINT.token(NOW)) is InvalidReason.BAD_SIGNATURE


def test_hs256_verifies_only_with_explicit_key() -> None:
    secret = b"s" * 32
    keys = KeySet([VerificationKey.of("shared", Algorithm.HS256, Secret(secret))])
    payload = json.dumps(MINT.claims(NOW)).encode()
    header = b'{"alg":"HS256","typ":"at+jwt","kid":"shared"}'
    good = MINT.raw(header, payload, secret)
    assert verifier(keys=keys).verify(good).key_id == "shared"
    assert reason_of(verifier(keys=keys), MINT.raw(header, payload, b"t" * 32)) is InvalidReason.BAD_SIGNATURE
    assert not KeySet.from_jwks([{"kty": "oct", "kid": "shared", "k": b64(secret)}]).get("shared")


def test_each_issuer_has_its_own_keys() -> None:
    other = Mint("ES256", "other", "https://other.test")
    check = Verifier(
        [
            (RULES, KeySet.from_jwks([MINT.jwk])),
            (IssuerRules(other.issuer, RULES.algorithms), KeySet.from_jwks([other.jwk])),
        ]
    )
    assert check.verify(MINT.token(NOW)).issuer == ISSUER
    assert check.verify(other.token(NOW)).issuer == other.issuer
    assert reason_of(check, other.token(NOW, iss=ISSUER)) is InvalidReason.UNKNOWN_KEY
    assert reason_of(check, MINT.token(NOW, iss=other.issuer)) is InvalidReason.UNKNOWN_KEY
    assert reason_of(check, MINT.token(NOW, iss="https://third.test")) is InvalidReason.WRONG_ISSUER
    assert reason_of(check, MINT.token(NOW, iss=["x"])) is InvalidReason.WRONG_ISSUER


def test_replaced_key_set_takes_effect_at_once() -> None:
    check = verifier(keys=KeySet.from_jwks([MINT.jwk]))
    token = MINT.token(NOW)
    check.verify(token)
    before = check.generation
    check.replace_key_set(ISSUER, KeySet.from_jwks([Mint("ES256", "other").jwk]))
    assert check.generation != before
    assert reason_of(check, token) is InvalidReason.UNKNOWN_KEY
    check.replace_key_set(ISSUER, KEYS)
    assert check.key_set(ISSUER) is KEYS
    check.verify(token)


def test_header_cache_is_bounded_and_holds_only_headers_of_signed_tokens() -> None:
    check = verifier()
    _, headers = check._only.state  # type: ignore[union-attr]
    payload = json.dumps(MINT.claims(NOW)).encode()
    for number in range(20):
        header = json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": MINT.jwk["kid"], "n": number}).encode()
        reason_of(check, MINT.raw(header, payload, Mint("ES256", "other").key))
    assert len(headers) == 0
    for number in range(300):
        check.verify(MINT.token(NOW, {"n": number}))
    assert len(headers) == 256


def test_check_times_applies_leeway() -> None:
    claims = verifier().verify(MINT.token(NOW))
    check_times(claims, NOW)
    check_times(claims, NOW + 899.999)
    for now, leeway, reason in (
        (NOW + 900, 0, InvalidReason.EXPIRED),
        (NOW + 930, 30, InvalidReason.EXPIRED),
        (NOW - 6, 0, InvalidReason.NOT_YET_VALID),
        (NOW - 31, 30, InvalidReason.NOT_YET_VALID),
    ):
        with pytest.raises(InvalidTokenError) as caught:
            check_times(claims, now, leeway)
        assert caught.value.reason is reason
    check_times(claims, NOW + 929, 30)
    check_times(claims, NOW - 30, 30)
    check_times(claims, NOW - 5)  # the clock of the issuer may be ahead


@pytest.mark.parametrize("typ", ["at+jwt", "JWT"])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1700000000", 1700000000),
        ("1700000000.0", 1700000000),
        ("1.7e9", 1700000000),
        ("17E+8", 1700000000),
        ("1700000000.25", 1700000000.25),
        ("170000000025e-2", 1700000000.25),
        ("0.0", 0),
        ("-0.0", 0),
        ("1e-400", 0),
        ("0.5", 0.5),
        ("253402300799.0", MAX_NUMERIC_DATE),
    ],
)
def test_every_json_number_notation_is_read_as_time(typ: str, claim: str, written: str, read: float) -> None:
    members = json.dumps(MINT.claims(NOW, **{claim: ...}), separators=(",", ":"))
    token = MINT.token_of(f'{members[:-1]},"{claim}":{written}}}'.encode(), {"typ": typ})
    claims = verifier().verify(token)
    time = {"exp": claims.expire_time, "iat": claims.issue_time, "nbf": claims.not_before}[claim]
    assert (time, type(time)) == (read, type(read))
    assert claims.payload[claim] == read


@pytest.mark.parametrize("typ", ["at+jwt", "JWT"])
@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "written",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "1e300",
        "1e12",
        "253402300799.5",
        "253402300800",
        "-0.5",
        "-1",
        "1" * 400,
        "true",
        "null",
        '"1700000000.5"',
        "[1700000000.5]",
        "1700000000.",
        ".5",
        "+1",
        "01",
        "0x6553F100",
    ],
)
def test_invalid_time_is_malformed(typ: str, claim: str, written: str) -> None:
    members = json.dumps(MINT.claims(NOW, **{claim: ...}), separators=(",", ":"))
    token = MINT.token_of(f'{members[:-1]},"{claim}":{written}}}'.encode(), {"typ": typ})
    assert reason_of(verifier(), token) is InvalidReason.MALFORMED


def test_check_times_compares_fractions_of_seconds() -> None:
    claims = verifier().verify(MINT.token(NOW, iat=NOW + 0.25, nbf=NOW + 0.5, exp=NOW + 900.75))
    check_times(claims, NOW + 900.5)
    check_times(claims, NOW - 4.5)
    check_times(claims, NOW + 930.5, 30)
    for now, leeway, reason in (
        (NOW + 900.75, 0, InvalidReason.EXPIRED),
        (NOW + 930.75, 30, InvalidReason.EXPIRED),
        (NOW - 4.75, 0, InvalidReason.NOT_YET_VALID),
        (NOW - 29.75, 30, InvalidReason.NOT_YET_VALID),
    ):
        with pytest.raises(InvalidTokenError) as caught:
            check_times(claims, now, leeway)
        assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (1700000000, 1700000000),
        (1700000000.75, 1700000000),
        (0, 0),
        (-0.5, None),
        (-1, None),
        (1e300, None),
        (10**30, None),
        (True, None),
        ("1", None),
    ],
)
def test_auth_time_is_whole_seconds_or_none(written: object, read: int | None) -> None:
    claims = verifier().verify(MINT.token(NOW, auth_ctx={"acr": "mfa", "auth_time": written}))
    assert claims.auth_context is not None
    assert (claims.auth_context.auth_time, type(claims.auth_context.auth_time)) == (read, type(read))


def both_kinds(kid: str) -> list[dict[str, Any]]:
    """Return an RSA and an EC key with the same kid (RFC 7517, section 4.5)."""
    return [{**MINTS["RS256"].jwk, "kid": kid}, {**MINT.jwk, "kid": kid}]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("without_alg", [False, True])
def test_keys_of_two_types_may_share_a_kid(order: int, without_alg: bool) -> None:  # noqa: FBT001
    jwks = [{n: v for n, v in jwk.items() if not (without_alg and n == "alg")} for jwk in both_kinds("one")]
    check = verifier(keys=KeySet.from_jwks(jwks[::order]))
    for algorithm in ("RS256", "ES256"):
        claims = check.verify(MINTS[algorithm].token(NOW, {"kid": "one"}))
        assert (claims.key_id, claims.subject) == ("one", "user-1")
    # The kid is known, but not for this algorithm. A signature of one key does not verify as one of the other.
    assert reason_of(check, MINTS["EdDSA"].token(NOW, {"kid": "one"})) is InvalidReason.BAD_SIGNATURE
    for algorithm, pretended in (("RS256", "ES256"), ("ES256", "RS256")):
        token = MINTS[algorithm].token(NOW, {"kid": "one", "alg": pretended})
        assert reason_of(check, token) is InvalidReason.BAD_SIGNATURE
    only_rsa = verifier(IssuerRules(ISSUER, frozenset({Algorithm.RS256})), KeySet.from_jwks(jwks))
    only_rsa.verify(MINTS["RS256"].token(NOW, {"kid": "one"}))
    assert reason_of(only_rsa, MINT.token(NOW, {"kid": "one"})) is InvalidReason.BAD_SIGNATURE


@pytest.mark.parametrize("algorithm", MINTS)
def test_several_keys_of_one_type_may_share_a_kid(algorithm: str) -> None:
    mints = [Mint(algorithm, name) for name in ("first", "other", "third")]
    check = verifier(keys=KeySet.from_jwks([{**mint.jwk, "kid": "one"} for mint in mints]))
    for mint in mints:
        assert check.verify(mint.token(NOW, {"kid": "one"})).key_id == "one"
    forged = Mint(algorithm, "forged").token(NOW, {"kid": "one"})
    assert reason_of(check, forged) is InvalidReason.BAD_SIGNATURE


def test_only_verifier_makes_verified_claims() -> None:
    claims = verifier().verify(MINT.token(NOW))
    values = [getattr(claims, name) for name in VerifiedClaims.__struct_fields__]
    with pytest.raises(TypeError, match="Verifier"):
        VerifiedClaims(object(), *values[1:])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Verifier"):
        VerifiedClaims(None, *values[1:])  # type: ignore[arg-type]


def test_claims_can_be_copied_and_are_not_tracked_by_gc() -> None:
    claims = verifier().verify(MINT.token(NOW, aud=[AUDIENCE, "other"], custom={"a": []}))
    assert not gc.is_tracked(claims)
    copied = copy.deepcopy(claims)
    assert (copied.subject, copied.payload) == (claims.subject, claims.payload)


_USUAL = strict_json.encode(
    MINT.claims(NOW, auth_ctx={"auth_time": NOW, "acr": "mfa", "amr": ["pwd"]}, cnf={"jkt": "x" * 43})
)


@pytest.mark.parametrize(
    ("there", "instead"),
    [
        (b'"sub":"user-1"', b'"sub":"user-2","sub":"user-1"'),
        (b'"rev":0', b'"rev":9,"rev":0'),
        (b'"acr":"mfa"', b'"acr":"pwd","acr":"mfa"'),
        (b'"jkt":', b'"jkt":"","jkt":'),
        (b'"cnf":', b'"cnf":{},"cnf":'),
        (b"}}", b'},"sub":"user-2"}'),
        (b"}}", b'},"sub":"user-1"}'),
        (b"}}", b'},"azp":"app","azp":"web"}'),
        (b"}}", b'},"x":1,"sub":"user-2"}'),
        (b"}}", b'},"x":1,"x":2}'),
        (b"}}", b'},"x":{"y":1,"y":2}}'),
        (b"}}", b'},"x":NaN}'),
        (b"}}", b'},"x":"\xff"}'),
        (b"}}", b'},"x":' + b"[" * 17 + b"]" * 17 + b"}"),
        (b"}}", b'},"x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        (b"}}", b'},"auth_ctx":' + b"[" * 17 + b"]" * 17 + b"}"),
        (b"}}", b"},}"),
        (b"}}", b"}} {}"),
        (b"}}", b'},"exp":1e400}'),
    ],
)
def test_payload_that_parsers_could_read_differently_is_malformed(there: bytes, instead: bytes) -> None:
    assert verifier().verify(MINT.token_of(_USUAL)).revision == 0
    payload = _USUAL.replace(there, instead)
    assert payload != _USUAL
    assert reason_of(verifier(), MINT.token_of(payload)) is InvalidReason.MALFORMED


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from([*MINT.claims(NOW), "azp", "auth_ctx", "cnf"]), _JSON | st.just(...), max_size=2
    ),
    st.dictionaries(st.text(max_size=6), _JSON, max_size=2),
)
def test_notation_of_payload_does_not_change_the_result(
    changes: dict[str, object], custom: dict[str, object]
) -> None:
    claims = {**MINT.claims(NOW, **changes), **custom}
    compact = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    spaced = json.dumps(dict(reversed(claims.items())), indent=1).encode()
    try:
        usual: VerifiedClaims | InvalidReason = verifier().verify(MINT.token_of(compact))
    except InvalidTokenError as error:
        usual = error.reason
    if isinstance(usual, InvalidReason):
        assert reason_of(verifier(), MINT.token_of(spaced)) is usual
        return
    other = verifier().verify(MINT.token_of(spaced))
    for name in VerifiedClaims.__struct_fields__:
        if name not in {"_encoded", "_is_plain"}:
            assert getattr(usual, name) == getattr(other, name)
    for name in (
        "auth_context",
        "confirmation",
        "custom_claims",
        "actor",
        "payload",
        "token_mark",
        "session_mark",
    ):
        assert getattr(usual, name) == getattr(other, name)


@pytest.mark.parametrize("name", ["cnf", "\\u0063nf", "c\\u006ef", "cn\\u0066"])
def test_key_of_a_token_is_found_however_its_name_is_spelled(name: str) -> None:
    usual = MINT.token(NOW, cnf={"jkt": "j" * 43}).split(".")[1]
    payload = decode(usual.encode()).replace(b'"cnf"', b'"' + name.encode() + b'"')
    claims = verifier().verify(MINT.token_of(payload))
    assert claims.confirmation.jkt == "j" * 43
    bearer = verifier().verify(MINT.token(NOW, about="cnf"))
    assert (bool(bearer.confirmation), bearer.custom_claims) == (False, {"about": "cnf"})


def test_repr_shows_no_custom_claim_and_no_signature() -> None:
    token = MINT.token(NOW, custom="private")
    text = repr(verifier().verify(token))
    assert "private" not in text
    assert token.rsplit(".", 1)[1] not in text


def test_verifier_without_or_with_duplicate_issuers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Verifier([])
    with pytest.raises(ValueError, match="twice"):
        Verifier([(RULES, KEYS), (RULES, KEYS)])


def test_token_longer_than_16_kib_is_too_large() -> None:
    assert reason_of(verifier(), "x" * 16384) is InvalidReason.MALFORMED
    assert reason_of(verifier(), "x" * 16385) is InvalidReason.TOO_LARGE


def test_token_with_cached_header_and_extra_part_is_malformed() -> None:
    check = verifier()
    token = MINTS["ES256"].token(NOW)
    check.verify(token)
    header, payload, signature = token.split(".")
    assert reason_of(check, f"{header}.{payload}.{payload}.{signature}") is InvalidReason.MALFORMED
    assert reason_of(check, f"{header}..{signature}") is InvalidReason.MALFORMED


def test_signed_payload_that_is_not_base64url_is_malformed() -> None:
    mint = MINTS["ES256"]
    signed = f"{mint.token(NOW).partition('.')[0]}.a"
    signature = b64(sign(mint.key, signed.encode()))
    assert reason_of(verifier(), f"{signed}.{signature}") is InvalidReason.MALFORMED


def test_unverified_issuer_is_a_trusted_issuer_or_none() -> None:
    one = verifier()
    assert one.unverified_issuer("no token at all") == ISSUER
    other = "https://other.test"
    two = Verifier([(RULES, KEYS), (IssuerRules(other, frozenset(Algorithm)), KEYS)])
    mint = MINTS["ES256"]
    assert two.unverified_issuer(mint.token(NOW)) == ISSUER
    assert two.unverified_issuer(mint.token(NOW, iss=other)) == other
    assert two.unverified_issuer(mint.token(NOW, iss="https://else.test")) is None
    wrong: tuple[Any, ...] = (mint.token(NOW, iss=[ISSUER]), "no token", "a.a.a", "a.\u00e4.a", 5, None)
    for token in wrong:
        assert two.unverified_issuer(token) is None
