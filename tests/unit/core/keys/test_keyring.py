"""The copy of the keys on a node: damaged rows, one algorithm for each key, and an HSM that fails."""

from __future__ import annotations

import hmac
import json
import logging
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.unit.core.key_nodes import KeyRotatingWrap, new_node
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import ConfigurationError, InvalidReason, SigningUnavailableError
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm

ES256, RS256, PS256 = Algorithm.ES256, Algorithm.RS256, Algorithm.PS256
EDDSA, HS256 = Algorithm.EDDSA, Algorithm.HS256


def broken(key: StoredSigningKey, other: StoredSigningKey) -> dict[str, dict[str, Any]]:
    private = bytearray(key.private_key)
    private[3] ^= 1
    return {
        "private key": {"private_key": bytes(private)},
        "no private key": {"private_key": b""},
        "private key of another": {"private_key": other.private_key},
        "public key": {"public_key": key.public_key[:-5]},
        "public key of another": {"public_key": other.public_key},
        "another algorithm": {"algorithm": EDDSA},
        "another key-encryption key": {"wrapping_key_id": "kek-unknown"},
    }


BROKEN = [
    "private key",
    "no private key",
    "private key of another",
    "public key",
    "public key of another",
    "another algorithm",
    "another key-encryption key",
]


@pytest.mark.parametrize("state", ["active", "prepared"])
@pytest.mark.parametrize("how", BROKEN)
async def test_a_damaged_key_is_refused_at_the_start_and_while_running(
    how: str, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    node = await new_node(wrap=KeyRotatingWrap("kek-1")).start()
    await node.rotation.advance()
    good = await node.only(state)
    other = await node.only("prepared" if state == "active" else "active")
    signing, revision, jwks = node.keyring.signer().key_id, node.keyring.revision, node.keyring.jwks
    await node.put(good, **broken(good, other)[how])
    before = await node.stored()
    with pytest.raises(ConfigurationError) as refused:
        await new_node(node.stores, wrap=KeyRotatingWrap("kek-1")).start()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            with pytest.raises(ConfigurationError):
                await node.rotation.advance()
            with pytest.raises(ConfigurationError):
                await node.keyring.refresh()
    assert await node.stored() == before  # a node that rejects the table changes nothing
    assert (node.keyring.signer().key_id, node.keyring.revision, node.keyring.jwks) == (
        signing,
        revision,
        jwks,
    )
    assert [record.message for record in caplog.records] == [
        f"the stored keys can't be used, the last good ones stay in use: {refused.value.message}"
    ]
    caplog.clear()
    await node.put(good)
    with caplog.at_level(logging.INFO):
        await node.rotation.advance()
    assert [record.message for record in caplog.records] == ["the keys can be used again"]
    assert node.keyring.revision == before.revision + 1


async def test_damage_without_a_new_revision_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    node = await new_node().start()
    rows = node.stores.keys._state.signing_keys
    (key_id,) = rows
    good = rows[key_id]
    rows[key_id] = replace(good, public_key=b"")
    with pytest.raises(
        ConfigurationError, match=f"public key of signing key {key_id} in the database is damaged"
    ):
        await node.rotation.advance()
    assert node.keyring.signer().key_id == key_id
    rows[key_id] = good
    await node.rotation.advance()
    assert node.keyring.failure is None


async def test_rows_that_disappear_while_running_leave_the_last_good_ones_in_force() -> None:
    node = await new_node().start()
    node.stores.keys._state.signing_keys.clear()
    with pytest.raises(ConfigurationError, match="it has no signing keys"):
        await node.rotation.advance()
    assert node.keyring.jwks
    assert node.keyring.signer().key_id


async def test_hs256_key_is_unpublished_and_its_tokens_validate_on_the_node() -> None:
    node = await Node(ManualClock(), algorithm=HS256).start()
    assert node.keyring.jwks == ()
    issued = await node.issue()
    assert (await node.validate(issued.access_token)).reason is None
    assert node.keyring.signing_keys()[0].public_key == b""


async def test_rsa_key_is_published_and_verified_for_ps256_alone() -> None:
    node = await Node(ManualClock(), algorithm=PS256).start()
    assert {jwk["alg"] for jwk in node.keyring.jwks} == {"PS256"}
    token = (await node.issue()).access_token
    assert (await node.validate(token)).reason is None
    key_id = node.keyring.signer().key_id
    assert set(node.keyring.key_set.get(key_id)) == {"PS256"}
    key = jwt.PyJWKSet([*node.keyring.jwks])[key_id]  # an independent library
    assert json.loads(jwt.PyJWS().decode(token, key, ["PS256"]))["sub"]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.PyJWS().decode(token.replace(token.split(".")[1], "e30"), key, ["PS256"])


@pytest.mark.parametrize("algorithm", [RS256, PS256, ES256, EDDSA])
async def test_a_public_key_is_no_secret_for_hs256(algorithm: Algorithm) -> None:
    """The classic confusion: sign with HS256 and the published key as the secret (RFC 8725, section 2.1)."""
    node = await Node(ManualClock(), algorithm=algorithm).start()
    key = node.keyring.signing_keys()[0]
    material = load_der_public_key(key.public_key)
    public = [
        key.public_key,
        json.dumps(node.keyring.jwks[0]).encode(),
        *(
            material.public_bytes(encoding, form)
            for encoding, form in [
                (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
                *([(Encoding.Raw, PublicFormat.Raw)] if algorithm is EDDSA else []),
            ]
        ),
    ]
    payload = (await node.issue()).access_token.split(".")[1]
    for secret in public:
        for confused in (
            "HS256",
            "none",
            *(other.value for other in (RS256, PS256, ES256, EDDSA) if other is not algorithm),
        ):
            header = base64url.encode(
                json.dumps({"alg": confused, "typ": "at+jwt", "kid": key.key_id}).encode()
            )
            signature = hmac.digest(secret, f"{header}.{payload}".encode(), "sha256")
            token = f"{header}.{payload}.{base64url.encode(signature)}"
            assert (await node.validate(token)).reason in {
                InvalidReason.BAD_SIGNATURE,
                InvalidReason.MALFORMED,
            }


async def test_failed_signer_is_probed_before_a_token_is_used_up() -> None:
    node = await new_node().start()
    await node.put(await node.only("active"), private_key=b"", wrapping_key_id="", provider="pkcs11")
    node = await new_node(node.stores).start()
    module = node.keyring.signer()._signer  # type: ignore[attr-defined]
    asked: list[bytes] = []
    works = True

    async def sign(data: bytes) -> bytes:
        asked.append(data)
        if not works:
            raise SigningUnavailableError
        return b"signature"

    module.sign = sign
    await node.keyring.ready()
    assert not asked  # no probe while the signer works
    works = False
    with pytest.raises(SigningUnavailableError):
        await node.keyring.signer().sign(b"token")
    for _ in range(2):
        with pytest.raises(SigningUnavailableError):
            await node.keyring.ready()
    works = True
    await node.keyring.ready()
    await node.keyring.ready()
    assert len(asked) == 4
    assert await node.keyring.signer().sign(b"token") == b"signature"


async def test_refresh_token_is_not_used_up_while_signing_is_unavailable() -> None:
    clock = ManualClock()
    node = await Node(clock, algorithm=ES256).start()
    issued = await node.issue()

    async def away(signing_input: bytes) -> bytes:
        raise SigningUnavailableError

    (key,) = (await node.stores.keys.load()).signing_keys
    moved = replace(key, provider="pkcs11")
    await node.stores.keys.save((await node.stores.keys.load()).revision, [moved], [])
    node = await Node(clock, stores=node.stores, algorithm=ES256).start()
    good, module = node.keyring.signer().sign, node.keyring.signer()._signer  # type: ignore[attr-defined]
    real, module.sign = module.sign, away
    with pytest.raises(SigningUnavailableError):
        await node.issue()
    with pytest.raises(SigningUnavailableError):
        await node.refresh(issued.refresh_token)
    clock.elapsed += 60  # longer than the grace period
    module.sign = real
    assert await good(b"x")
    assert (await node.refresh(issued.refresh_token)).refresh_token
