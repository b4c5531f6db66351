"""Changes of keys that operators request, the replacement of a revoked key, and the change of the key-encryption key."""

from __future__ import annotations

import contextlib

import pytest

from tests.unit.core.key_nodes import (
    ANNOUNCE,
    PERIOD,
    KeyNode,
    KeyRotatingWrap,
    draft,
    new_node,
    pair,
    published,
    revoke,
)
from tests.unit.core.node import SYSTEM, Intercepted
from token_service.core.keys.lifecycle import MAX_KEYS
from token_service.core.keys.store import SigningKeyState, StoredMacKey, StoredSigningKey
from token_service.errors import (
    ConfigurationError,
    KeyNotAnnouncedError,
    KeyNotFoundError,
    KeyStateError,
    SigningUnavailableError,
    StoreUnavailableError,
)
from token_service.tokens.algorithms import Algorithm

ES256, RS256, EDDSA = Algorithm.ES256, Algorithm.RS256, Algorithm.EDDSA


async def test_prepare_publishes_a_key_that_does_not_sign() -> None:
    node = await new_node().start()
    signing = node.keyring.signer().key_id
    key = await node.manager.prepare(SYSTEM, RS256, 3072)
    assert (key.algorithm, key.state) == (RS256, SigningKeyState.PREPARED)
    assert node.factory.sizes[-1] == 3072
    assert key.key_id in {jwk["kid"] for jwk in node.keyring.jwks}
    assert node.keyring.signer().key_id == signing


async def test_prepare_beyond_the_limit_is_refused_and_leaves_no_key() -> None:
    node = await new_node().start()
    for _ in range(MAX_KEYS - 1):
        await node.manager.prepare(SYSTEM, None)
    made = node.factory.made[ES256]
    with pytest.raises(KeyStateError, match="64 keys already"):
        await node.manager.prepare(SYSTEM, None)
    assert node.factory.made[ES256] == made
    assert len((await node.stored()).signing_keys) == MAX_KEYS


async def test_a_key_that_may_have_been_saved_is_not_deleted_where_it_was_made() -> None:
    node = new_node()
    keys = Intercepted(node.stores.keys)
    node = KeyNode(node.stores, node.clock, keys=keys)
    await node.start()

    async def lost() -> None:
        raise StoreUnavailableError

    keys.after["save"] = lost  # committed, but the answer is lost
    with pytest.raises(StoreUnavailableError):
        await node.manager.prepare(SYSTEM, None)
    for call in (node.rotation.advance(), node.rotation.advance()):
        with contextlib.suppress(StoreUnavailableError):
            await call
    del keys.after["save"]
    await node.rotation.advance()
    assert len(await node.all("prepared")) == 1
    assert not node.factory.destroyed


async def test_forced_activation_waits_for_no_subscriber() -> None:
    node = await new_node().start()
    key = await node.manager.prepare(SYSTEM, None)
    assert (await node.manager.activate(SYSTEM, key.key_id, force=True)).state is SigningKeyState.ACTIVE


async def test_unknown_key_or_wrong_state_is_refused() -> None:
    node = await new_node().start()
    manager = node.manager
    for call in (
        manager.activate(SYSTEM, "x", force=True),
        manager.retire(SYSTEM, "x"),
        manager.set_certificates(SYSTEM, "x", []),
    ):
        with pytest.raises(KeyNotFoundError):
            await call
    other = await manager.prepare(SYSTEM, EDDSA)
    with pytest.raises(
        KeyStateError, match=r"for EdDSA, but new tokens are signed with ES256; change .*SIGNING_ALG"
    ):
        await manager.activate(SYSTEM, other.key_id, force=True)
    key = await manager.prepare(SYSTEM, None)
    await manager.retire(SYSTEM, key.key_id)
    with pytest.raises(KeyStateError, match="retired, not prepared"):
        await manager.activate(SYSTEM, key.key_id, force=True)
    await revoke(node, key.key_id)
    for call in (
        manager.activate(SYSTEM, key.key_id, force=True),
        manager.retire(SYSTEM, key.key_id),
        manager.set_certificates(SYSTEM, key.key_id, [b"x"]),
    ):
        with pytest.raises(KeyStateError, match="revoked"):
            await call


async def test_retiring_the_key_that_signs_hands_over_to_a_spare_that_is_announced() -> None:
    node = await new_node().start()
    first = await node.only("active")
    with pytest.raises(KeyStateError, match="only key that can sign"):
        await node.manager.retire(SYSTEM, first.key_id)
    spare = await node.manager.prepare(SYSTEM, None)
    with pytest.raises(KeyNotAnnouncedError):
        await node.manager.retire(SYSTEM, first.key_id)
    assert node.keyring.signer().key_id == first.key_id
    node.clock.true.elapsed += ANNOUNCE
    retired = await node.manager.retire(SYSTEM, first.key_id)
    assert retired.state is SigningKeyState.RETIRED
    assert node.keyring.signer().key_id == spare.key_id
    assert first.key_id in published(await node.stored())
    assert await node.manager.retire(SYSTEM, first.key_id) == retired


async def test_certificates_are_published_with_their_key_once() -> None:
    node = await new_node().start()
    key = await node.only("active")
    revision = node.keyring.revision
    certified = await node.manager.set_certificates(SYSTEM, key.key_id, [b"leaf", b"root"])
    assert certified.certificates == (b"leaf", b"root")
    assert node.keyring.jwks[0]["x5c"] == ["bGVhZg==", "cm9vdA=="]
    assert node.keyring.revision == revision + 1
    await node.manager.set_certificates(SYSTEM, key.key_id, [b"leaf", b"root"])
    assert node.keyring.revision == revision + 1


async def test_revocation_changes_nothing_else_in_an_unusable_table() -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first = await node.only("active")
    await node.put(await node.only("prepared"), public_key=b"")
    before = await node.stored()
    for call in (
        node.manager.prepare(SYSTEM, None),
        node.manager.activate(SYSTEM, first.key_id, force=True),
        node.manager.retire(SYSTEM, first.key_id),
        node.manager.set_certificates(SYSTEM, first.key_id, [b"x"]),
        node.manager.rewrap(SYSTEM),
    ):
        with pytest.raises(ConfigurationError):
            await call
    assert await node.stored() == before


async def test_revoked_key_is_replaced_before_its_removal() -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first, spare = await node.only("active"), await node.only("prepared")
    async with node.manager.revoking(SYSTEM, first.key_id):
        assert node.keyring.signer().key_id == spare.key_id  # not announced, but no other key can sign
        await node.stores.log.append([draft(first.key_id)])
    assert await node.states() == {first.key_id: "revoked", spare.key_id: "active"}
    assert [jwk["kid"] for jwk in node.keyring.jwks] == [spare.key_id]
    assert not node.keyring.key_set.get(first.key_id)
    await revoke(node, first.key_id)  # again
    assert (await node.only("active")).key_id == spare.key_id
    await revoke(node, "unknown")


async def test_without_a_spare_a_key_is_made() -> None:
    node = await new_node().start()
    first = await node.only("active")
    await revoke(node, first.key_id)
    assert (await node.only("active")).key_id == node.keyring.signer().key_id != first.key_id


async def test_a_key_is_revoked_even_if_none_can_be_made_now(caplog: pytest.LogCaptureFixture) -> None:
    node = await new_node().start()
    first = await node.only("active")
    node.factory.failure = SigningUnavailableError("the HSM does not work at the moment")
    await revoke(node, first.key_id)
    assert await node.states() == {first.key_id: "revoked"}
    assert f"no key replaces the revoked key {first.key_id}: the HSM does not work" in caplog.text
    node.factory.failure = None
    await node.rotation.advance()
    assert node.keyring.signer().key_id == (await node.only("active")).key_id


async def test_a_key_is_revoked_even_if_another_one_is_damaged(caplog: pytest.LogCaptureFixture) -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first = await node.only("active")
    await node.put(await node.only("prepared"), public_key=b"")
    with pytest.raises(ConfigurationError):
        await node.rotation.advance()
    await revoke(node, first.key_id)
    assert (await node.states())[first.key_id] == "revoked"
    assert "the public key of signing key" in caplog.text


async def test_concurrent_revocation_of_key_and_successor_leaves_a_signing_key() -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first, spare = await node.only("active"), await node.only("prepared")
    async with node.manager.revoking(SYSTEM, spare.key_id):  # it does not sign yet
        await revoke(node, first.key_id)  # now it does
        await node.stores.log.append([draft(spare.key_id)])
    assert node.keyring.signer().key_id == (await node.only("active")).key_id
    assert (await node.only("active")).key_id not in {first.key_id, spare.key_id}


def mac_secrets(node: KeyNode) -> dict[int, bytes]:
    return {version: key.reveal() for version, key in node.keyring.mac_keys.keys.items()}


async def test_rewrapping_replaces_the_old_key_encryption_key() -> None:
    node = await new_node(wrap=KeyRotatingWrap("old")).start()
    await node.rotation.advance()
    await node.pass_time(PERIOD)
    await revoke(node, (await node.only("retired")).key_id)
    both = await new_node(node.stores, wrap=KeyRotatingWrap("new", "old")).start()
    stored = await both.stored()
    count = len(stored.signing_keys) + len(stored.mac_keys)
    assert await both.manager.rewrap(SYSTEM) == count
    assert await both.manager.rewrap(SYSTEM) == 0
    only_new = await new_node(node.stores, wrap=KeyRotatingWrap("new")).start()
    assert only_new.keyring.signer().key_id == node.keyring.signer().key_id
    assert mac_secrets(only_new) == mac_secrets(node)
    after = await only_new.stored()
    rewrapped: list[StoredSigningKey | StoredMacKey] = [*after.signing_keys, *after.mac_keys]
    assert {key.wrapping_key_id for key in rewrapped} == {"new"}
    with pytest.raises(ConfigurationError, match="no key-encryption key new"):
        await new_node(node.stores, wrap=KeyRotatingWrap("old")).start()


async def test_keys_of_an_hsm_are_not_rewrapped() -> None:
    node = await new_node(wrap=KeyRotatingWrap("old")).start()
    await node.put(await node.only("active"), private_key=b"", wrapping_key_id="", provider="pkcs11")
    both = KeyNode(node.stores, node.clock, wrap=KeyRotatingWrap("new", "old"))
    assert await both.manager.rewrap(SYSTEM) == 2


async def test_rewrap_overtaken_by_another_node_is_repeated() -> None:
    first, second = pair(wrap=KeyRotatingWrap("new", "old"))
    old = await new_node(first.stores, wrap=KeyRotatingWrap("old")).start()
    keys = Intercepted(first.stores.keys)
    slow = KeyNode(first.stores, first.clock, keys=keys, wrap=KeyRotatingWrap("new", "old"))
    await second.start()

    async def meanwhile() -> None:
        del keys.before["save"]
        await old.manager.prepare(SYSTEM, None)

    keys.before["save"] = meanwhile
    assert await slow.manager.rewrap(SYSTEM) == 4
    assert {key.wrapping_key_id for key in (await slow.stored()).signing_keys} == {"new"}
