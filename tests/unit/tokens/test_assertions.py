"""Verification of assertions: every check that profiles share."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, strategies as st

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.assertions import (
    MAX_ASSERTION_BYTES,
    audiences,
    parse_assertion,
    verify_assertion,
)
from token_service.tokens.base64url import encode
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk, public_jwk
from token_service.tokens.key_set import KeySet

NOW = 1_800_000_000.0
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
RSA_KEY = rsa.generate_private_key(65537, 2048)
PSS_KEY = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {"ES256": EC_KEY, "EdDSA": ED_KEY, "RS256": RSA_KEY, "PS256": PSS_KEY}
KEY_SET = KeySet.from_jwks(
    [{**public_jwk(key.public_key()), "kid": alg, "alg": alg} for alg, key in KEYS.items()]
)
CLAIMS = {"iss": "app", "sub": "app", "aud": "https://t", "jti": "1", "exp": NOW + 60}


def signed(alg: str = "ES256", header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
    payload = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    headers = {"kid": alg, **(header or {})}
    return jwt.encode(payload, key or KEYS[alg], algorithm=alg, headers=headers)


def verify(token: str, key_set: KeySet = KEY_SET) -> dict[str, Any]:
    return verify_assertion(
        parse_assertion(token), key_set, now=NOW, max_lifetime=300, types=("JWT", "client-authentication+jwt")
    )


def refusal(token: str, key_set: KeySet = KEY_SET) -> InvalidReason:
    with pytest.raises(InvalidTokenError) as caught:
        verify(token, key_set)
    return caught.value.reason


@pytest.mark.parametrize("alg", KEYS)
def test_assertion_of_each_algorithm_verifies(alg: str) -> None:
    assert verify(signed(alg)) == CLAIMS


def test_rsa_key_verifies_only_the_algorithm_it_is_for() -> None:
    for kid, other in (("RS256", "PS256"), ("PS256", "RS256")):
        token = signed(other, {"kid": kid}, KEYS[kid])
        assert refusal(token) is InvalidReason.UNKNOWN_KEY
        assert refusal(jwt.encode(CLAIMS, KEYS[kid], other)) is InvalidReason.BAD_SIGNATURE  # without kid


def test_text_of_an_assertion_does_not_repeat_its_signature() -> None:
    token = signed()
    text = repr(parse_assertion(token))
    assert token.rpartition(".")[0] not in text
    assert "signature" not in text


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_either_name_of_ed25519_in_key_and_assertion_verifies(name: str) -> None:
    key_set = KeySet.from_jwks([{**public_jwk(ED_KEY.public_key()), "kid": "ed", "alg": name}])
    for alg in ("EdDSA", "Ed25519"):
        assert verify(renamed(alg), key_set) == CLAIMS


def test_name_of_ed25519_with_a_key_of_another_type_is_refused() -> None:
    assert refusal(renamed("Ed25519", kid="ES256")) is InvalidReason.UNKNOWN_KEY
    with pytest.raises(UnusableKeyError, match="alg is not ES256"):
        parse_public_jwk({**public_jwk(EC_KEY.public_key()), "alg": "Ed25519"})


def renamed(alg: str, kid: str = "ed") -> str:
    """Return an assertion of the Ed25519 key with any `alg`."""
    parts = [encode(json.dumps(part).encode()) for part in ({"alg": alg, "kid": kid}, CLAIMS)]
    signing_input = ".".join(parts)
    return f"{signing_input}.{encode(ED_KEY.sign(signing_input.encode()))}"


def test_assertion_without_kid_is_tried_with_the_keys_of_its_algorithm() -> None:
    token = jwt.encode(CLAIMS, ED_KEY, algorithm="EdDSA")
    assert "kid" not in jwt.get_unverified_header(token)
    assert verify(token) == CLAIMS
    assert refusal(token, KeySet.from_jwks([public_jwk(EC_KEY.public_key())])) is InvalidReason.UNKNOWN_KEY


@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"]
)
def test_expected_types_are_accepted(typ: str) -> None:
    assert verify(signed(header={"typ": typ})) == CLAIMS


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(header={"typ": "at+jwt"}), InvalidReason.WRONG_TYPE),
        (signed(header={"typ": 5}), InvalidReason.WRONG_TYPE),
        (signed(header={"jwk": public_jwk(EC_KEY.public_key())}), InvalidReason.MALFORMED),
        (signed(header={"jku": "https://evil"}), InvalidReason.MALFORMED),
        (signed(header={"crit": ["x"], "x": 1}), InvalidReason.MALFORMED),
        (signed(header={"kid": "other"}), InvalidReason.UNKNOWN_KEY),
        (signed(header={"kid": "RS256"}), InvalidReason.UNKNOWN_KEY),
        (signed(header={"kid": ""}), InvalidReason.UNKNOWN_KEY),
        (signed(key=ec.generate_private_key(ec.SECP256R1())), InvalidReason.BAD_SIGNATURE),
        (jwt.encode(CLAIMS, "", algorithm="none", headers={"kid": "ES256"}), InvalidReason.BAD_SIGNATURE),
        (jwt.encode(CLAIMS, "k" * 32, algorithm="HS256", headers={"kid": "ES256"}), InvalidReason.BAD_SIGNATURE),
        (signed(exp=NOW), InvalidReason.EXPIRED),
        (signed(exp=NOW - 1), InvalidReason.EXPIRED),
        (signed(exp=None), InvalidReason.MALFORMED),
        (signed(exp=NOW + 311), InvalidReason.MALFORMED),
        (signed(exp=1e40), InvalidReason.MALFORMED),
        (signed(exp=10**400), InvalidReason.MALFORMED),
        (signed(nbf=10**400), InvalidReason.MALFORMED),
        (signed(exp=True), InvalidReason.MALFORMED),
        (signed(nbf=NOW + 11), InvalidReason.NOT_YET_VALID),
        (signed(iat=NOW + 11), InvalidReason.NOT_YET_VALID),
        (signed(jti="x" * MAX_ASSERTION_BYTES), InvalidReason.TOO_LARGE),
        ("a.b", InvalidReason.MALFORMED),
        ("", InvalidReason.MALFORMED),
        ("ä.b.c", InvalidReason.MALFORMED),
        (signed() + "x.y", InvalidReason.MALFORMED),
    ],
    ids=lambda value: value.name if isinstance(value, InvalidReason) else "token",
)  # fmt: skip
def test_each_fault_has_its_reason(token: str, reason: InvalidReason) -> None:
    assert refusal(token) is reason


def test_times_may_be_ahead_by_the_allowance_for_clocks() -> None:
    assert verify(signed(nbf=NOW + 10, iat=NOW + 10, exp=NOW + 310))["exp"] == NOW + 310


def test_number_of_keys_tried_without_kid_is_bounded() -> None:
    others = [public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()) for _ in range(4)]
    token = jwt.encode(CLAIMS, EC_KEY, algorithm="ES256")
    assert (
        refusal(token, KeySet.from_jwks([*others, public_jwk(EC_KEY.public_key())]))
        is InvalidReason.BAD_SIGNATURE
    )
    assert verify(token, KeySet.from_jwks([*others[:3], public_jwk(EC_KEY.public_key())])) == CLAIMS


def test_duplicate_claim_is_refused() -> None:
    header = encode(json.dumps({"alg": "ES256", "kid": "ES256"}).encode())
    payload = encode(b'{"sub":"app","sub":"admin","exp":1800000060}')
    with pytest.raises(InvalidTokenError):
        parse_assertion(f"{header}.{payload}.AA")


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with suppress(InvalidTokenError):
        parse_assertion(text)


@pytest.mark.parametrize(
    ("value", "found"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ()), (None, ()), (5, ()), (["a", 5], ())],
)
def test_audience_is_a_text_or_a_list_of_texts(value: Any, found: tuple[str, ...]) -> None:
    assert audiences({"aud": value}) == found
    assert audiences({}) == ()
