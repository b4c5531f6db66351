from __future__ import annotations

from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import import_key

from token_service.signers.private_key import (
    PrivateKey,
    generate_private_key,
    key_algorithm,
    key_id_of,
    load_private_key,
    private_key_bytes,
    public_key_bytes,
    verification_material,
)
from token_service.tokens.algorithms import RSA_ALGORITHMS, Algorithm
from token_service.tokens.secret import Secret

# RFC 8037, appendix A.3
ED25519_DER = bytes.fromhex(
    "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
)
ED25519_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.fixture(scope="module")
def keys() -> dict[Algorithm, PrivateKey]:
    return {algorithm: generate_private_key(algorithm) for algorithm in Algorithm}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_private_key_round_trips(keys: dict[Algorithm, PrivateKey], algorithm: Algorithm) -> None:
    key = keys[algorithm]
    again = load_private_key(algorithm, private_key_bytes(key))
    assert key_algorithm(again, algorithm) is algorithm
    assert key_id_of(again) == key_id_of(key)
    assert len(key_id_of(key)) == 43
    assert private_key_bytes(again).reveal() == private_key_bytes(key).reveal()
    assert public_key_bytes(again) == public_key_bytes(key)
    assert type(verification_material(again)) is type(verification_material(key))


@pytest.mark.parametrize("algorithm", Algorithm)
def test_key_loads_only_for_its_own_algorithm(
    keys: dict[Algorithm, PrivateKey], algorithm: Algorithm
) -> None:
    data = private_key_bytes(keys[algorithm])
    alike = (
        RSA_ALGORITHMS if algorithm in RSA_ALGORITHMS else {algorithm}
    )  # the store says which of them it is for
    for other in set(Algorithm) - alike - {Algorithm.HS256}:
        with pytest.raises(ValueError, match="not a"):
            load_private_key(other, data)


@pytest.mark.parametrize("algorithm", [each for each in Algorithm if each is not Algorithm.HS256])
def test_key_id_is_the_thumbprint_of_an_independent_library(
    keys: dict[Algorithm, PrivateKey], algorithm: Algorithm
) -> None:
    kinds: dict[Algorithm, Literal["RSA", "EC", "OKP"]] = {
        Algorithm.RS256: "RSA",
        Algorithm.PS256: "RSA",
        Algorithm.ES256: "EC",
        Algorithm.EDDSA: "OKP",
    }
    der = private_key_bytes(keys[algorithm]).reveal()
    assert import_key(der, kinds[algorithm]).thumbprint() == key_id_of(keys[algorithm])


def test_key_id_matches_the_rfc_vector() -> None:
    key = load_private_key(Algorithm.EDDSA, Secret(ED25519_DER[:-1] + b"\x60"))
    assert key_id_of(key) == ED25519_THUMBPRINT


def test_key_id_of_a_secret_is_not_its_thumbprint() -> None:
    secret = Secret(b"s" * 32)
    assert key_id_of(secret) == key_id_of(Secret(b"s" * 32))
    assert key_id_of(secret) != key_id_of(Secret(b"t" * 32))
    assert key_id_of(secret) != import_key(secret.reveal(), "oct").thumbprint()


def der(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey) -> Secret:
    return Secret(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("algorithm", "data"),
    [
        (Algorithm.RS256, der(rsa.generate_private_key(65537, 1024))),
        (Algorithm.ES256, der(ec.generate_private_key(ec.SECP384R1()))),
        (Algorithm.EDDSA, der(ed448.Ed448PrivateKey.generate())),
        (Algorithm.HS256, Secret(b"too short")),
        (Algorithm.RS256, Secret(b"")),
        (Algorithm.RS256, Secret(b"\x30\x82junk")),
    ],
    ids=["rsa-1024", "p-384", "ed448", "short-secret", "empty", "junk"],
)
def test_weak_unsupported_and_damaged_keys_are_refused(algorithm: Algorithm, data: Secret) -> None:
    with pytest.raises(ValueError, match="key"):
        load_private_key(algorithm, data)


def test_rsa_key_size_can_be_chosen() -> None:
    key = generate_private_key(Algorithm.RS256, rsa_bits=3072)
    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 3072
