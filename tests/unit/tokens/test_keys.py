from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa
from hypothesis import given, strategies as st

from tests.support.token_mint import Mint, b64, jwk_of, private_key, sign
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm, VerificationKeyMaterial, algorithm_of, verifier_for
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk, public_jwk, thumbprint
from token_service.tokens.key_set import MAX_KEYS_OF_ONE_NAME, KeySet, RefusedKey
from token_service.tokens.secret import Secret

_VECTORS = Path(__file__).parents[2] / "vectors"
SIGNATURES: list[dict[str, Any]] = json.loads((_VECTORS / "rfc_signatures.json").read_text())["vectors"]
THUMBPRINTS: list[dict[str, Any]] = json.loads((_VECTORS / "rfc_thumbprints.json").read_text())["vectors"]
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]


def material_of(jwk: dict[str, Any]) -> VerificationKeyMaterial:
    if jwk["kty"] == "oct":
        return Secret(base64url.decode(jwk["k"].encode()))
    return parse_public_jwk({"kid": "any", **jwk})[2]


@pytest.mark.parametrize("vector", SIGNATURES, ids=lambda v: v["source"])
def test_only_published_signatures_verify(vector: dict[str, Any]) -> None:
    signing_input, _, signature_text = vector["jws"].encode().rpartition(b".")
    signature = base64url.decode(signature_text)
    for other in SIGNATURES:
        material = material_of(other["key"])
        verify = verifier_for(material)
        assert verify(signature, signing_input) == (other is vector)
    verify = verifier_for(material_of(vector["key"]))
    assert algorithm_of(material_of(vector["key"])) == vector["alg"]
    assert not verify(signature, signing_input + b"A")
    for at in range(len(signature)):
        assert not verify(signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :], signing_input)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\xff" * len(signature)):
        assert not verify(wrong, signing_input)


@pytest.mark.parametrize("vector", THUMBPRINTS, ids=lambda v: v["source"])
def test_thumbprints_match_published_vectors(vector: dict[str, Any]) -> None:
    assert thumbprint(vector["key"]) == vector["thumbprint"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_public_jwk_round_trips(algorithm: str) -> None:
    key = private_key(algorithm)
    jwk = jwk_of(key, algorithm)
    assert jwk["alg"] == algorithm
    assert jwk["use"] == "sig"
    assert jwk["kid"] == thumbprint(jwk)
    assert not {"d", "p", "q"} & set(jwk)
    kid, parsed, material = parse_public_jwk(json.loads(json.dumps(jwk)))
    assert (kid, parsed) == (jwk["kid"], algorithm)
    assert verifier_for(material, parsed)(sign(key, b"data", algorithm), b"data")


GOOD = jwk_of(private_key("ES256"))
RSA_PRIVATE = private_key("RS256")
assert isinstance(RSA_PRIVATE, rsa.RSAPrivateKey)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {**GOOD, "kid": None},
        {**GOOD, "kid": ""},
        {**GOOD, "kid": "k" * 257},
        {n: v for n, v in GOOD.items() if n != "kid"},
        {**GOOD, "use": "enc"},
        {**GOOD, "use": None},
        {**GOOD, "use": ["sig"]},
        {**GOOD, "key_ops": ["sign"]},
        {**GOOD, "key_ops": ["verify", "sign"]},
        {**GOOD, "key_ops": ["verify", "encrypt"]},
        {**GOOD, "key_ops": "verify"},
        {**GOOD, "key_ops": []},
        {**GOOD, "alg": "ES384"},
        {**GOOD, "alg": "RS256"},
        {**GOOD, "alg": None},
        {**GOOD, "alg": "ECDH-ES"},
        {**GOOD, "d": "AAAA"},
        {**GOOD, "kty": "RSA"},
        {**GOOD, "kty": "oct", "k": "AAAA"},
        {**GOOD, "kty": "ec"},
        {**GOOD, "kty": ["EC"]},
        {**GOOD, "crv": "P-384"},
        {**GOOD, "crv": "secp256k1"},
        {**GOOD, "x": GOOD["y"]},
        {**GOOD, "x": 1},
        {**GOOD, "x": "!!"},
        {**GOOD, "x": ""},
        {**GOOD, "y": "A" * 20_000},
        jwk_of(private_key("RS256")) | {"alg": "RS512"},
        jwk_of(private_key("RS256")) | {"alg": "PS384"},
        jwk_of(private_key("RS256")) | {"alg": "RSA-OAEP"},
        jwk_of(private_key("RS256")) | {"n": "AQAB"},
        jwk_of(private_key("RS256")) | {"e": "AA"},
        jwk_of(private_key("RS256")) | {"e": "AQ"},
        jwk_of(private_key("RS256")) | {"n": b64(b"\xff" * 1100)},
        jwk_of(private_key("EdDSA")) | {"crv": "X25519"},
        jwk_of(private_key("EdDSA")) | {"crv": "Ed448"},
        jwk_of(private_key("EdDSA")) | {"x": "AAAA"},
    ],
    ids=range(39),
)
def test_key_that_must_not_verify_is_left_out(jwk: dict[str, Any]) -> None:
    with pytest.raises(UnusableKeyError):
        parse_public_jwk(jwk)
    assert [key.key_id for key in KeySet.from_jwks([jwk, {**GOOD, "kid": "good"}])] == ["good"]


@given(
    st.dictionaries(
        st.sampled_from(["kty", "kid", "use", "key_ops", "alg", "crv", "x", "y", "n", "e"]),
        st.none()
        | st.integers()
        | st.text(max_size=9)
        | st.lists(st.text(max_size=4), max_size=2)
        | st.sampled_from(list(GOOD.values())),
    )
)
def test_malformed_jwk_never_raises_from_key_set(changes: dict[str, Any]) -> None:
    for start in (GOOD, jwk_of(private_key("RS256")), jwk_of(private_key("EdDSA"))):
        KeySet.from_jwks([{**start, **changes}])


@pytest.mark.parametrize("again", [GOOD, {n: v for n, v in GOOD.items() if n not in {"alg", "use"}}])
def test_key_listed_twice_counts_once(again: dict[str, Any]) -> None:
    keys = KeySet.from_jwks([GOOD, again, jwk_of(private_key("EdDSA"))], revision=4)
    assert [key.algorithm for key in keys] == [Algorithm.ES256, Algorithm.EDDSA]
    assert (len(keys), keys.revision, keys.refused) == (2, 4, ())
    assert keys.get(GOOD["kid"])["ES256"].verify(sign(private_key("ES256"), b"data"), b"data")


def test_at_most_four_keys_are_tried_for_one_signature() -> None:
    names = [f"key-{number}" for number in range(MAX_KEYS_OF_ONE_NAME + 2)]
    jwks = [{**jwk_of(private_key("ES256", name)), "kid": "one"} for name in names]
    keys = KeySet.from_jwks([*jwks, jwks[0], {**jwk_of(private_key("EdDSA")), "kid": "one"}])
    verify = keys.get("one")["ES256"].verify
    good = [verify(sign(private_key("ES256", name), b"data"), b"data") for name in names]
    assert good == [True, True, True, True, False, False]
    assert sorted(keys.get("one")) == ["ES256", "EdDSA"]
    assert keys.refused == (RefusedKey("'one'", "4 other ES256 keys have this kid", weak=False),) * 2


def test_refused_keys_are_listed_with_reason() -> None:
    rsa_jwk = jwk_of(private_key("RS256"))
    keys = KeySet.from_jwks(
        [
            GOOD,
            {**GOOD, "kid": "for encryption", "use": "enc"},
            {**GOOD, "kid": ["x" * 500]},
            {**rsa_jwk, "kid": "slow", "e": b64(b"\x01" * 9)},
        ]
    )
    assert [(key.key_id, key.weak) for key in keys.refused] == [
        ("'for encryption'", False),
        ("['" + "x" * 78, False),
        ("'slow'", True),
    ]
    assert keys.refused[0].why == "use is not sig"
    assert "exponent" in keys.refused[2].why


@pytest.mark.parametrize(
    "material",
    [
        rsa.generate_private_key(65537, 1024).public_key(),
        ec.generate_private_key(ec.SECP384R1()).public_key(),
        ed448.Ed448PrivateKey.generate().public_key(),
        Secret(b"short"),
    ],
    ids=["RSA 1024", "P-384", "Ed448", "short secret"],
)
def test_weak_and_unsupported_keys_have_no_algorithm(material: Any) -> None:
    with pytest.raises(ValueError, match=r"(?i)key"):
        verifier_for(material)


PSS_KEY = private_key("PS256")


def pss(hash_: hashes.HashAlgorithm, mask: hashes.HashAlgorithm, salt: int) -> bytes:
    assert isinstance(PSS_KEY, rsa.RSAPrivateKey)
    return PSS_KEY.sign(b"data", padding.PSS(padding.MGF1(mask), salt), hash_)


def test_ps256_has_one_form_of_signature() -> None:
    sha256 = hashes.SHA256()
    (key,) = KeySet.from_jwks([jwk_of(PSS_KEY, "PS256")])
    assert key.algorithm is Algorithm.PS256
    assert key.verify(pss(sha256, sha256, 32), b"data")
    assert not key.verify(pss(sha256, sha256, 32), b"other")
    refused = [
        pss(sha256, sha256, 0),
        pss(sha256, sha256, 20),
        pss(sha256, sha256, 31),
        pss(sha256, sha256, 33),
        pss(sha256, sha256, 222),  # the longest one for 2048 bits
        pss(sha256, hashes.SHA384(), 32),
        pss(hashes.SHA384(), hashes.SHA384(), 48),
        sign(PSS_KEY, b"data"),  # as RS256
        pss(sha256, sha256, 32)[1:],
        pss(sha256, sha256, 32) + b"\0",
        bytes(256),
        b"\xff" * 256,
        b"",
    ]
    assert [key.verify(signature, b"data") for signature in refused] == [False] * len(refused)


@pytest.mark.parametrize("algorithm", ["PS256", "RS256"])
def test_rsa_signature_without_its_leading_zero_is_refused(algorithm: str) -> None:
    signer = private_key(algorithm)
    (key,) = KeySet.from_jwks([jwk_of(signer, algorithm)])
    signatures = ((data, sign(signer, data, algorithm)) for data in (b"%d" % n for n in range(10_000)))
    # One signature of 256 begins with a zero.
    data, signature = next((data, signature) for data, signature in signatures if not signature[0])
    assert key.verify(signature, data)
    assert not key.verify(signature[1:], data)


def test_rsa_key_without_alg_is_for_rs256() -> None:
    plain = {name: value for name, value in jwk_of(PSS_KEY).items() if name != "alg"}
    (key,) = KeySet.from_jwks([plain])
    assert key.algorithm is Algorithm.RS256
    assert not key.verify(sign(PSS_KEY, b"data", "PS256"), b"data")
    assert key.verify(sign(PSS_KEY, b"data"), b"data")


def test_rsa_key_listed_for_two_algorithms_counts_for_the_first() -> None:
    one, two = jwk_of(PSS_KEY, "PS256"), {**jwk_of(PSS_KEY), "kid": "again"}
    keys = KeySet.from_jwks([one, two, {**two, "kid": one["kid"]}, one, jwk_of(private_key("RS256"))])
    assert [key.algorithm for key in keys] == [Algorithm.PS256, Algorithm.RS256]
    assert [(key.key_id, key.why) for key in keys.refused] == [
        ("'again'", "is already listed as a key for PS256"),
        (repr(one["kid"]), "is already listed as a key for PS256"),
    ]
    assert [key.algorithm for key in KeySet.from_jwks([two, one])] == [Algorithm.RS256]


def test_key_of_another_type_is_not_for_ps256() -> None:
    material = private_key("ES256").public_key()
    for function in (algorithm_of, verifier_for, public_jwk):
        with pytest.raises(ValueError, match="a key for ES256 can't be used for PS256"):
            function(material, Algorithm.PS256)


def test_secret_has_no_public_jwk() -> None:
    with pytest.raises(ValueError, match="symmetric"):
        public_jwk(Secret(b"s" * 32))


def test_key_verifies_only_its_own_algorithm() -> None:
    mint = Mint("RS256")
    (key,) = KeySet.from_jwks([mint.jwk])
    assert key.algorithm is Algorithm.RS256
    assert not key.verify(sign(b"s" * 32, b"data"), b"data")
