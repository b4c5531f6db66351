from __future__ import annotations

import asyncio
import pickle
import threading
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Literal

import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import Key, import_key

from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.signers.local import LocalKeys, LocalSigner
from token_service.signers.private_key import generate_private_key, private_key_bytes, verification_material
from token_service.tokens import base64url, strict_json
from token_service.tokens.algorithms import Algorithm, verifier_for
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret

KINDS: dict[Algorithm, Literal["RSA", "EC", "OKP"]] = {
    Algorithm.RS256: "RSA",
    Algorithm.PS256: "RSA",
    Algorithm.ES256: "EC",
    Algorithm.EDDSA: "OKP",
}


@pytest.fixture
async def keys() -> AsyncIterator[LocalKeys]:
    async with LocalKeys(threads=2) as local:
        yield local


def signing_input(algorithm: Algorithm, payload: bytes = b'{"sub":"alice"}') -> bytes:
    header = strict_json.encode({"alg": algorithm.value, "typ": "at+jwt"})
    return f"{base64url.encode(header)}.{base64url.encode(payload)}".encode()


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_independent_library_verifies_signatures(keys: LocalKeys, algorithm: Algorithm) -> None:
    new = await keys.generate(algorithm)
    signer = keys.open_signer(stored(new.key_id, algorithm), new.private_key)
    assert signer.algorithm is algorithm
    assert signer.key_id == new.key_id
    text = signing_input(algorithm)
    token = text.decode() + "." + base64url.encode(await signer.sign(text))
    material = verification_material(generate_private_key(algorithm))
    key: Key
    if algorithm is Algorithm.HS256:
        assert new.private_key is not None
        key = import_key(new.private_key.reveal(), "oct")
    else:
        key = import_key(new.public_key, KINDS[algorithm])
        assert key.thumbprint() == new.key_id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # about the name EdDSA, which RFC 9864 replaces
        verified = jws.deserialize_compact(token, key, algorithms=[algorithm.value])
    assert verified.payload == b'{"sub":"alice"}'
    assert not verifier_for(material, algorithm)(await signer.sign(text), text)  # the material of another key


async def test_es256_signatures_are_64_bytes_with_leading_zeros(keys: LocalKeys) -> None:
    key = generate_private_key(Algorithm.ES256)
    signer = LocalSigner(key)
    verify = verifier_for(verification_material(key))
    for number in range(2000):  # one signature in 128 has a leading zero byte in r or s
        text = b"%d" % number
        signature = await signer.sign(text)
        assert len(signature) == 64
        assert verify(signature, text)


async def test_only_rsa_signatures_are_made_in_threads(keys: LocalKeys) -> None:
    for algorithm in Algorithm:
        signer = keys.open_signer(*await _new(keys, algorithm))
        seen: list[str] = []
        sign = signer._sign

        def record(data: bytes, seen: list[str] = seen, sign=sign) -> bytes:
            seen.append(threading.current_thread().name)
            return sign(data)

        signer._sign = record
        await asyncio.gather(*(signer.sign(b"x") for _ in range(8)))
        in_threads = [name for name in seen if name.startswith("sign")]
        assert len(in_threads) == (8 if algorithm in {Algorithm.RS256, Algorithm.PS256} else 0)


async def _new(keys: LocalKeys, algorithm: Algorithm) -> tuple[StoredSigningKey, Secret | None]:
    new = await keys.generate(algorithm)
    return stored(new.key_id, algorithm), new.private_key


def stored(key_id: str, algorithm: Algorithm) -> StoredSigningKey:
    return StoredSigningKey(
        key_id=key_id,
        algorithm=algorithm,
        state=SigningKeyState.ACTIVE,
        public_key=b"",
        private_key=b"",
        wrapping_key_id="",
        create_time=0,
    )


async def test_sign_after_close_raises_signing_unavailable() -> None:
    async with LocalKeys() as keys:
        signer = keys.open_signer(*await _new(keys, Algorithm.RS256))
    with pytest.raises(SigningUnavailableError):
        await signer.sign(b"x")


async def test_missing_unusable_or_wrong_private_key_is_refused(keys: LocalKeys) -> None:
    key, private_key = await _new(keys, Algorithm.ES256)
    with pytest.raises(ConfigurationError, match="belongs to"):
        keys.open_signer(replace(key, key_id="another"), private_key)
    with pytest.raises(ConfigurationError, match="not a key for EdDSA"):
        keys.open_signer(replace(key, algorithm=Algorithm.EDDSA), private_key)
    with pytest.raises(ConfigurationError, match="is missing"):
        keys.open_signer(key, None)
    with pytest.raises(ConfigurationError, match="not a private key") as caught:
        keys.open_signer(key, Secret(b"hunter2"))
    assert "hunter2" not in caught.value.message


async def test_repr_and_pickle_reveal_no_secret(keys: LocalKeys) -> None:
    new = await keys.generate(Algorithm.HS256)
    signer = keys.open_signer(stored(new.key_id, Algorithm.HS256), new.private_key)
    assert new.private_key is not None
    for text in (repr(new), repr(signer), str(signer)):
        assert repr(new.private_key.reveal())[2:-1] not in text
        assert new.private_key.reveal().hex() not in text
    with pytest.raises(TypeError):
        pickle.dumps(new)


async def test_public_jwk_has_the_key_id_of_the_signer(keys: LocalKeys) -> None:
    for algorithm in set(Algorithm) - {Algorithm.HS256}:
        key = generate_private_key(algorithm)
        jwk = public_jwk(verification_material(key), algorithm)
        assert jwk["kid"] == LocalSigner(key, made_for=algorithm).key_id
        assert import_key(jwk).thumbprint() == jwk["kid"]
    assert private_key_bytes(generate_private_key(Algorithm.HS256)).reveal()
