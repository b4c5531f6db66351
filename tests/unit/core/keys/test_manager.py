"""The keeper of the keys over a real key table: first start, schedule, operators, several nodes, and whatever
may be wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hmac
import itertools
import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.support.memory_stores import MemoryStores
from tests.unit.core.key_nodes import (
    ANNOUNCE,
    PERIOD,
    KeyFactory,
    KeyNode,
    KeyRotatingWrap,
    NodeClock,
    TrueTime,
    published,
)
from tests.unit.core.node import SYSTEM, Intercepted, Node
from tests.unit.core.virtual_time import START, LoopClock, ManualClock, cancelled, settle, virtual_time
from token_service.core.keys.lifecycle import MAX_KEYS, PUBLISHED_AFTER_RETIREMENT
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.policies.policy import DAY, Policy
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import RevocationDraft
from token_service.errors import (
    ConfigurationError,
    InvalidReason,
    KeyNotAnnouncedError,
    KeyNotFoundError,
    KeyStateError,
    OverloadedError,
    SigningUnavailableError,
    StoreUnavailableError,
)
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import parse_opaque_token
from token_service.tokens.revocation import RevocationTarget

ES256, RS256, EDDSA, HS256 = Algorithm.ES256, Algorithm.RS256, Algorithm.EDDSA, Algorithm.HS256


def new_node(stores: Any = None, true: TrueTime | None = None, **options: Any) -> KeyNode:
    clock = NodeClock(true or TrueTime())
    return KeyNode(stores if stores is not None else MemoryStores(clock), clock, **options)


def pair(**options: Any) -> tuple[KeyNode, KeyNode]:
    """Two nodes that share everything but their clocks."""
    true, factory = TrueTime(), KeyFactory()
    stores = MemoryStores(NodeClock(true))
    first = new_node(stores, true, factory=factory, node_id="node-1", **options)
    return first, new_node(stores, true, factory=factory, node_id="node-2", **options)


def draft(key_id: str) -> RevocationDraft:
    return draft_of(RevocationTarget.KEY, key_id, START)


async def revoke(node: KeyNode, key_id: str) -> None:
    async with node.manager.revoking(SYSTEM, key_id):
        await node.stores.log.append([draft(key_id)])


def mac_secrets(node: KeyNode) -> dict[int, bytes]:
    return {version: key.reveal() for version, key in node.keyring.mac_keys.keys.items()}


# --- The first start --------------------------------------------------------------------------------------------------


async def test_the_first_start_makes_a_key_that_signs_and_two_versions_of_the_mac_key() -> None:
    node = await new_node().start()
    stored = await node.stored()
    (key,) = stored.signing_keys
    assert (key.state, key.algorithm, key.provider) == (SigningKeyState.ACTIVE, ES256, "local")
    assert node.keyring.signer().key_id == key.key_id
    assert [jwk["kid"] for jwk in node.keyring.jwks] == [key.key_id]
    assert sorted(node.keyring.mac_keys.keys) == [1, 2]
    assert node.keyring.mac_keys.active == 1
    assert node.audit.named("signing_key.activated") == [
        {
            "key_id": key.key_id,
            "algorithm": "ES256",
            "state": "active",
            "actor": "system:key-rotation",
            "outcome": "success",
        }
    ]
    again = await new_node(node.stores).start()
    assert (await again.stored()) == stored


async def test_of_many_nodes_that_start_at_once_one_makes_the_keys() -> None:
    true, factory = TrueTime(), KeyFactory()
    stores = MemoryStores(NodeClock(true))
    nodes = [new_node(stores, true, factory=factory, node_id=f"node-{number}") for number in range(8)]
    await asyncio.gather(*(node.start() for node in nodes))
    (key,) = (await nodes[0].stored()).signing_keys
    assert {node.keyring.signer().key_id for node in nodes} == {key.key_id}
    # What the others made is deleted where it was made.
    assert len(factory.destroyed) == factory.made[ES256] - 1
    assert key.key_id not in factory.destroyed


@pytest.mark.parametrize("empty", ["signing_keys", "mac_keys"])
async def test_a_table_that_lost_its_rows_is_refused_and_nothing_is_made(empty: str) -> None:
    node = await new_node().start()
    getattr(node.stores.keys._state, empty).clear()
    before = await node.stored()
    with pytest.raises(
        ConfigurationError, match=r"damaged: it has no .* keys; restore their table from a backup"
    ):
        await new_node(node.stores).start()
    assert await node.stored() == before


async def test_a_database_where_a_key_was_revoked_and_no_other_signs_gets_one() -> None:
    node = await new_node().start()
    await node.stores.log.append([draft(node.keyring.signer().key_id)])
    again = await new_node(node.stores, factory=node.factory).start()
    assert (await again.only("active")).key_id == again.keyring.signer().key_id


async def test_a_database_that_has_only_a_prepared_key_lets_it_sign() -> None:
    node = await new_node().start()
    spare = await node.manager.prepare(SYSTEM, None)
    await node.stores.keys.save(
        (await node.stored()).revision, [], [], deleted_key_ids=[node.keyring.signer().key_id]
    )
    again = await new_node(node.stores).start()
    assert again.keyring.signer().key_id == spare.key_id


# --- The schedule -----------------------------------------------------------------------------------------------------


async def test_a_rotation() -> None:
    node = await new_node().start()
    first = await node.only("active")
    await node.pass_time(0)
    spare = await node.only("prepared")
    assert {jwk["kid"] for jwk in node.keyring.jwks} == {first.key_id, spare.key_id}
    await node.pass_time(PERIOD - 1)
    assert (await node.only("active")).key_id == first.key_id
    await node.pass_time(1)
    assert (await node.only("active")).key_id == spare.key_id == node.keyring.signer().key_id
    assert (await node.only("retired")).key_id == first.key_id
    assert (await node.only("prepared")).key_id not in {first.key_id, spare.key_id}
    assert first.key_id in published(await node.stored())
    await node.pass_time(PUBLISHED_AFTER_RETIREMENT - 1)
    assert (await node.only("retired")).key_id == first.key_id
    await node.pass_time(1)
    assert not await node.all("retired")
    assert node.factory.destroyed == [first.key_id]
    assert [event.removeprefix("signing_key.") for event, _ in node.audit.events] == [
        *("activated", "prepared"),
        *("mac_key.prepared", "activated", "prepared"),
        "forgotten",
    ]


async def test_a_due_rotation_waits_for_connected_validators_but_not_for_ever() -> None:
    node = await new_node(period=1.0).start()
    node.subscribers.connect("slow")
    await node.pass_time(ANNOUNCE)
    first = await node.only("active")
    assert node.keyring.signer().key_id == first.key_id
    node.subscribers.confirm("slow", 0, node.keyring.revision)
    await node.rotation.advance()
    second = await node.only("active")
    assert second.key_id != first.key_id
    await node.pass_time(2 * ANNOUNCE - 1)
    assert (await node.only("active")).key_id == second.key_id
    await node.pass_time(1)
    assert (await node.only("active")).key_id != second.key_id


async def test_a_rotation_waits_for_the_validators_of_other_nodes_too() -> None:
    first, second = pair(period=1.0)
    await first.start()
    await second.start()
    second.subscribers.connect("elsewhere")
    before = (await first.only("active")).key_id
    await first.rotation.advance()
    first.clock.true.elapsed += ANNOUNCE
    await second.reports.write()
    await first.rotation.advance()
    assert (await first.only("active")).key_id == before
    await second.keyring.refresh()
    second.subscribers.confirm("elsewhere", 0, second.keyring.revision)
    await second.reports.write()
    await first.rotation.advance()
    assert (await first.only("active")).key_id != before


@virtual_time
async def test_the_loop_rotates_and_is_replaced_when_its_node_leaves_or_dies() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    nodes = [
        KeyNode(stores, clock, node_id=f"node-{number}", period=3600.0, announce=60.0)  # type: ignore[arg-type]
        for number in range(2)
    ]
    for node in nodes:
        await node.start()
    tasks = [asyncio.create_task(node.rotation.run()) for node in nodes]
    await asyncio.sleep(3 * 3600 + 120)
    activated = [len(node.audit.named("signing_key.activated")) for node in nodes]
    assert activated == [4, 0]
    await cancelled(tasks[0])
    await asyncio.sleep(15)
    assert stores.leases._leases["keys"][0] == "node-1"
    await asyncio.sleep(2 * 3600)
    assert len(nodes[1].audit.named("signing_key.activated")) == 2
    await cancelled(tasks[1])
    assert await stores.leases.acquire("keys", "anybody", 1)


@virtual_time
async def test_a_leader_that_is_killed_is_replaced_within_three_intervals() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    assert await stores.leases.acquire("keys", "dead", 30.0)
    node = KeyNode(stores, clock)  # type: ignore[arg-type]
    await node.start()
    task = asyncio.create_task(node.rotation.run())
    await asyncio.sleep(29)
    assert not await node.all("prepared")
    await asyncio.sleep(11)
    assert len(await node.all("prepared")) == 1
    await cancelled(task)


@virtual_time
async def test_database_outage_is_logged_once_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    leases = Intercepted(stores.leases)
    node = KeyNode(stores, clock, leases=leases, period=3600.0)  # type: ignore[arg-type]
    await node.start()

    async def away() -> None:
        raise StoreUnavailableError

    leases.before["acquire"] = away
    task = asyncio.create_task(node.rotation.run())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(300)
    assert [record.message for record in caplog.records] == [
        "the key schedule can't run, trying again: the database is unavailable"
    ]
    del leases.before["acquire"]
    await asyncio.sleep(20)
    assert len(await node.all("prepared")) == 1
    await cancelled(task)


# --- Clocks that jump -------------------------------------------------------------------------------------------------


async def test_a_clock_that_jumps_ahead_takes_no_key_from_a_token_that_is_still_good() -> None:
    node = await new_node().start()
    await node.pass_time(PERIOD)
    retired = await node.only("retired")
    node.clock.skew = 400 * DAY
    await node.rotation.advance()
    assert retired.key_id in published(await node.stored())
    await node.pass_time(PUBLISHED_AFTER_RETIREMENT - 1)
    assert retired.key_id in published(await node.stored())
    await node.pass_time(1)
    assert retired.key_id not in published(await node.stored())


async def test_a_clock_that_jumps_ahead_lets_no_key_sign_that_was_not_announced() -> None:
    node = await new_node().start()
    first = await node.only("active")
    await node.rotation.advance()
    node.clock.skew = 400 * DAY
    await node.pass_time(ANNOUNCE - 1)
    assert node.keyring.signer().key_id == first.key_id
    await node.pass_time(1)
    assert node.keyring.signer().key_id != first.key_id  # early, but known to all


async def test_after_a_clock_was_set_back_rotations_go_on_at_once_and_at_their_pace() -> None:
    node = await new_node().start()
    node.clock.skew = 400 * DAY
    await node.pass_time(ANNOUNCE)  # rotates: it seems due
    ahead = await node.only("active")
    node.clock.skew = 0.0
    await node.pass_time(ANNOUNCE)  # when the key began to sign is unknown now: the next one takes over
    corrected = await node.only("active")
    assert corrected.key_id != ahead.key_id
    await node.pass_time(PERIOD - 1, look=3)
    assert (await node.only("active")).key_id == corrected.key_id
    await node.pass_time(ANNOUNCE, look=3)
    assert (await node.only("active")).key_id != corrected.key_id


async def test_a_clock_set_back_stops_nothing_that_is_announced_already() -> None:
    node = await new_node().start()
    await node.pass_time(ANNOUNCE)
    node.clock.skew = -500 * DAY
    spare = await node.only("prepared")
    assert (await node.manager.activate(SYSTEM, spare.key_id, force=False)).state is SigningKeyState.ACTIVE


async def test_the_versions_of_the_mac_key_survive_jumps() -> None:
    node = await new_node().start()
    for skew in (400 * DAY, 0.0, -400 * DAY, 0.0, 400 * DAY):
        node.clock.skew = skew
        for _ in range(20):
            await node.rotation.advance()
    assert sorted(node.keyring.mac_keys.keys)[:2] == [1, 2]
    assert len(node.keyring.mac_keys.keys) <= 2 + 5


# --- Operators --------------------------------------------------------------------------------------------------------


async def test_prepare_publishes_a_key_that_does_not_sign() -> None:
    node = await new_node().start()
    signing = node.keyring.signer().key_id
    key = await node.manager.prepare(SYSTEM, RS256, 3072)
    assert (key.algorithm, key.state) == (RS256, SigningKeyState.PREPARED)
    assert node.factory.sizes[-1] == 3072
    assert key.key_id in {jwk["kid"] for jwk in node.keyring.jwks}
    assert node.keyring.signer().key_id == signing


async def test_prepare_is_refused_when_there_are_too_many_and_leaves_nothing_behind() -> None:
    node = await new_node().start()
    for _ in range(MAX_KEYS - 1):
        await node.manager.prepare(SYSTEM, None)
    made = node.factory.made[ES256]
    with pytest.raises(KeyStateError, match="64 keys already"):
        await node.manager.prepare(SYSTEM, None)
    assert node.factory.made[ES256] == made
    assert len((await node.stored()).signing_keys) == MAX_KEYS


async def test_activate_is_refused_until_the_key_was_announced() -> None:
    node = await new_node().start()
    key = await node.manager.prepare(SYSTEM, None)
    node.clock.true.elapsed += 100
    with pytest.raises(
        KeyNotAnnouncedError, match=f"{key.key_id} is published for 600 s .* 500 s are left"
    ) as caught:
        await node.manager.activate(SYSTEM, key.key_id, force=False)
    assert caught.value.retry_after == 500
    node.clock.true.elapsed += 500
    active = await node.manager.activate(SYSTEM, key.key_id, force=False)
    assert active.state is SigningKeyState.ACTIVE
    assert node.keyring.signer().key_id == key.key_id
    assert len(await node.all("retired")) == 1
    revision = (await node.stored()).revision
    assert await node.manager.activate(SYSTEM, key.key_id, force=False) == active
    assert (await node.stored()).revision == revision


async def test_forced_activation_waits_for_no_subscriber() -> None:
    node = await new_node().start()
    key = await node.manager.prepare(SYSTEM, None)
    assert (await node.manager.activate(SYSTEM, key.key_id, force=True)).state is SigningKeyState.ACTIVE


async def test_activate_does_not_wait_when_all_connected_validators_have_confirmed() -> None:
    first, second = pair()
    await first.start()
    await second.start()
    first.subscribers.connect("here")
    second.subscribers.connect("there")
    key = await first.manager.prepare(SYSTEM, None)
    await second.keyring.refresh()
    await second.reports.write()

    async def is_refused() -> bool:
        try:
            await first.manager.activate(SYSTEM, key.key_id, force=False)
        except KeyNotAnnouncedError:
            return True
        return False

    assert await is_refused()
    first.subscribers.confirm("here", 0, first.keyring.revision)
    assert await is_refused()  # one on another node has not
    second.subscribers.confirm("there", 0, second.keyring.revision - 1)
    await second.reports.write()
    assert await is_refused()  # it has an older key set
    second.subscribers.confirm("there", 0, second.keyring.revision)
    await second.reports.write()
    assert not await is_refused()
    # Also where only other nodes have validators: the command line has none of its own.
    another = await second.manager.prepare(SYSTEM, None)
    await second.reports.write()
    first.subscribers.disconnect("here")
    second.subscribers.confirm("there", 0, second.keyring.revision)
    await second.reports.write()
    await first.manager.activate(SYSTEM, another.key_id, force=False)


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


# --- The kill ---------------------------------------------------------------------------------------------------------


async def test_a_revoked_key_is_replaced_before_it_goes() -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first, spare = await node.only("active"), await node.only("prepared")
    async with node.manager.revoking(SYSTEM, first.key_id):
        assert node.keyring.signer().key_id == spare.key_id  # not announced, but nothing else can sign
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


async def test_nothing_else_is_changed_in_a_table_that_can_not_be_used() -> None:
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


async def test_a_key_that_may_have_been_saved_is_not_deleted_where_it_was_made() -> None:
    node = new_node()
    keys = Intercepted(node.stores.keys)
    node = KeyNode(node.stores, node.clock, keys=keys)
    await node.start()

    async def lost() -> None:
        raise StoreUnavailableError

    keys.after["save"] = lost  # committed, but nobody heard of it
    with pytest.raises(StoreUnavailableError):
        await node.manager.prepare(SYSTEM, None)
    for call in (node.rotation.advance(), node.rotation.advance()):
        with contextlib.suppress(StoreUnavailableError):
            await call
    del keys.after["save"]
    await node.rotation.advance()
    assert len(await node.all("prepared")) == 1
    assert not node.factory.destroyed


async def test_concurrent_revocation_of_key_and_successor_leaves_a_signing_key() -> None:
    node = await new_node().start()
    await node.rotation.advance()
    first, spare = await node.only("active"), await node.only("prepared")
    async with node.manager.revoking(SYSTEM, spare.key_id):  # it does not sign yet
        await revoke(node, first.key_id)  # now it does
        await node.stores.log.append([draft(spare.key_id)])
    assert node.keyring.signer().key_id == (await node.only("active")).key_id
    assert (await node.only("active")).key_id not in {first.key_id, spare.key_id}


# --- Several nodes at once --------------------------------------------------------------------------------------------


async def test_two_leaders_take_each_step_once() -> None:
    first, second = pair()
    await first.start()
    await second.start()
    for _ in range(5):
        await asyncio.gather(*(node.rotation.advance() for node in (first, second) * 4))
        assert len(await first.all("active")) == len(await first.all("prepared")) == 1
        await first.pass_time(PERIOD)
        await second.rotation.advance()
    events = first.audit.named("signing_key.activated") + second.audit.named("signing_key.activated")
    assert len({str(event["key_id"]) for event in events}) == len(events) == 6


async def test_decision_overtaken_by_another_node_is_repeated() -> None:
    first, second = pair()
    keys = Intercepted(first.stores.keys)
    slow = KeyNode(first.stores, first.clock, keys=keys, factory=first.factory, node_id="slow")
    await first.start()
    await slow.start()
    other: list[str] = []

    async def meanwhile() -> None:
        del keys.before["save"]
        other.append((await second.manager.prepare(SYSTEM, None)).key_id)

    keys.before["save"] = meanwhile
    await slow.rotation.advance()
    assert [key.key_id for key in await slow.all("prepared")] == other
    # The key it had made for nothing is deleted where it was made.
    assert len(first.factory.destroyed) == 1
    assert slow.keyring.revision == (await slow.stored()).revision


async def test_a_change_that_is_always_overtaken_ends() -> None:
    first, second = pair()
    keys = Intercepted(first.stores.keys)
    slow = KeyNode(first.stores, first.clock, keys=keys, factory=first.factory)
    await slow.start()

    async def meanwhile() -> None:
        await second.put((await second.stored()).signing_keys[0])

    keys.before["save"] = meanwhile
    for call in (
        slow.manager.prepare(SYSTEM, None),
        slow.manager.set_certificates(SYSTEM, slow.keyring.signer().key_id, [b"x"]),
    ):
        with pytest.raises(OverloadedError):
            await call
    assert len(first.factory.destroyed) == 1


async def test_killed_at_any_point_of_a_rotation_the_next_node_goes_on() -> None:
    """A node is cut off before or after every single call it makes, over and over, and another one takes
    over.
    """
    for when, number in itertools.product(("before", "after"), range(1, 30)):
        true, factory = TrueTime(), KeyFactory()
        stores = MemoryStores(NodeClock(true))
        keys = Intercepted(stores.keys)
        dying = new_node(stores, true, keys=keys, factory=factory, node_id="dying", period=3600.0)
        survivor = new_node(stores, true, factory=factory, node_id="survivor", period=3600.0)
        await survivor.start()
        calls = 0

        async def count(number: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                raise asyncio.CancelledError

        for method in ("load", "save"):
            getattr(keys, when)[method] = count
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(3):
                await dying.rotation.advance()
                await survivor.rotation.advance()
                assert len(await survivor.all("active")) == 1
                true.elapsed += 4000
        seen = {key.key_id for key in (await survivor.stored()).signing_keys}
        (before,) = await survivor.all("active")
        for _ in range(3):
            await survivor.rotation.advance()
            assert len(await survivor.all("active")) == 1
            assert len(await survivor.all("prepared")) == 1
            true.elapsed += 4000
        assert (await survivor.only("active")).key_id != before.key_id
        assert seen


async def test_a_caller_that_hangs_up_does_not_leave_the_node_behind_its_own_decision() -> None:
    node = new_node()
    keys = Intercepted(node.stores.keys)
    node = KeyNode(node.stores, node.clock, keys=keys)
    await node.start()
    saving = asyncio.Event()

    async def hold() -> None:
        saving.set()
        await asyncio.sleep(0)

    keys.after["save"] = hold
    task = asyncio.create_task(node.manager.prepare(SYSTEM, None))
    await saving.wait()
    task.cancel()
    await asyncio.wait([task])
    await settle()
    assert node.keyring.revision == (await node.stored()).revision
    assert len(node.keyring.jwks) == 2


async def test_a_failure_that_its_caller_did_not_wait_for_is_no_forgotten_exception() -> None:
    node = new_node()
    keys = Intercepted(node.stores.keys)
    node = KeyNode(node.stores, node.clock, keys=keys)
    await node.start()
    forgotten: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: forgotten.append(context))
    saving, failing = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        saving.set()
        await failing.wait()
        raise StoreUnavailableError

    keys.before["save"] = fail
    task = asyncio.create_task(node.manager.prepare(SYSTEM, None))
    await saving.wait()
    task.cancel()
    await asyncio.wait([task])
    failing.set()
    await settle()
    gc.collect()
    assert forgotten == []


# --- A change of algorithm --------------------------------------------------------------------------------------------


async def test_a_change_of_algorithm_while_nodes_are_configured_differently() -> None:
    """Nodes are restarted one by one with another algorithm, and whoever leads, nothing unknown is ever
    signed with.
    """
    old_node, new_config = pair(algorithm=ES256)
    await old_node.start()
    await old_node.rotation.advance()
    first = await old_node.only("active")
    new_config = KeyNode(
        old_node.stores, new_config.clock, algorithm=EDDSA, factory=old_node.factory, node_id="node-2"
    )
    await new_config.start()
    assert new_config.keyring.signer().key_id == first.key_id  # there is no other yet
    await new_config.rotation.advance()
    assert new_config.keyring.signer().key_id == first.key_id
    await old_node.rotation.advance()
    coming = await new_config.only("prepared", EDDSA)
    assert coming.key_id in {jwk["kid"] for jwk in old_node.keyring.jwks}
    await new_config.pass_time(ANNOUNCE)
    assert new_config.keyring.signer().key_id == coming.key_id
    await old_node.keyring.refresh()
    assert old_node.keyring.signer().key_id == coming.key_id  # the old key is retired
    # Should the other one lead again, it goes back to its own algorithm; with a key that all know.
    await old_node.pass_time(ANNOUNCE)
    back = await old_node.only("active")
    assert back.algorithm is ES256
    assert (await old_node.states())[coming.key_id] == "retired"
    await new_config.pass_time(ANNOUNCE, look=2)
    assert (await new_config.only("active")).algorithm is EDDSA
    # All of it is still published.
    assert {first.key_id, coming.key_id, back.key_id} <= published(await new_config.stored())


async def test_both_algorithms_sign_between_the_two_steps_of_a_change() -> None:
    node = await new_node(algorithm=ES256).start()
    changed = KeyNode(node.stores, node.clock, algorithm=EDDSA, factory=node.factory)
    await changed.rotation.advance()
    await changed.pass_time(ANNOUNCE - 1)
    coming = await changed.only("prepared", EDDSA)
    await changed.put(coming, state=SigningKeyState.ACTIVE, activate_time=changed.clock.now())  # and killed
    await node.keyring.refresh()
    await changed.keyring.refresh()
    assert (node.keyring.signer().algorithm, changed.keyring.signer().algorithm) == (ES256, EDDSA)
    await changed.rotation.advance()
    await node.keyring.refresh()
    assert node.keyring.signer().algorithm is EDDSA


# --- Keys that can't be used ------------------------------------------------------------------------------------------


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
    assert await node.stored() == before  # nothing was changed on such ground
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


async def test_a_damage_that_raised_no_revision_is_noticed_too(caplog: pytest.LogCaptureFixture) -> None:
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
    assert node.keyring.signer()


@virtual_time
async def test_a_node_that_can_not_use_the_keys_does_not_lead_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    behind = KeyNode(stores, clock, node_id="behind", wrap=KeyRotatingWrap("kek-1"))  # type: ignore[arg-type]
    await behind.start()
    tasks = [asyncio.create_task(behind.rotation.run())]
    await asyncio.sleep(5)
    assert stores.leases._leases["keys"][0] == "behind"
    ahead = KeyNode(stores, clock, node_id="ahead", wrap=KeyRotatingWrap("kek-2", "kek-1"))  # type: ignore[arg-type]
    await ahead.start()
    assert await ahead.manager.rewrap(SYSTEM) == 4  # two signing keys, two versions of the MAC key
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(25)
        tasks.append(asyncio.create_task(ahead.rotation.run()))
        await asyncio.sleep(100)
    assert stores.leases._leases["keys"][0] == "ahead"
    assert [record.message for record in caplog.records] == [
        "the stored keys can't be used, the last good ones stay in use: no key-encryption key kek-2"
    ]
    assert behind.keyring.signer().key_id == ahead.keyring.signer().key_id
    for task in tasks:
        await cancelled(task)


# --- The key-encryption key -------------------------------------------------------------------------------------------


async def test_rewrapping_makes_the_old_key_encryption_key_needless() -> None:
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
    assert {key.wrapping_key_id for key in (*after.signing_keys, *after.mac_keys)} == {"new"}
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


# --- MAC keys ---------------------------------------------------------------------------------------------------------

LONG_LIVED = Policy(refresh_token_ttl=400 * DAY, idle_timeout=400 * DAY)


def version_of(node: Node, token: str) -> int:
    return parse_opaque_token(token, node.keyring.mac_keys).key_version


async def test_mac_key_rotation_ends_no_session() -> None:
    clock = ManualClock()
    node = await Node(clock, policy=LONG_LIVED).start()
    kinds = frozenset({TokenKind.REFRESH, TokenKind.SESSION})
    issued = await node.issue(kinds=kinds, request_id="once")
    untouched = await node.issue(kinds=kinds)
    token, versions = issued.refresh_token, [version_of(node, issued.refresh_token)]
    for _ in range(3):
        clock.elapsed += 90 * DAY
        await node.key_rotation.advance()
        await node.tailer.start()
        superseded = token
        token = (await node.refresh(token)).refresh_token
        assert (await node.refresh(superseded)).refresh_token == token  # a retry gets the same
        versions.append(version_of(node, token))
    assert versions == [1, 2, 3, 4]
    assert sorted(node.keyring.mac_keys.keys) == [1, 2, 3, 4, 5]
    # What was made with the first version is as good as ever.
    assert version_of(node, untouched.refresh_token) == 1
    assert (await node.validate(untouched.refresh_token)).reason is None
    assert (await node.validate(untouched.session_token)).reason is None
    assert (await node.refresh(untouched.refresh_token)).refresh_token
    assert (await node.validate(issued.session_token)).reason is None


async def test_a_version_is_known_to_every_node_for_a_period_before_tokens_are_made_with_it() -> None:
    first, second = pair()
    await first.start()
    await second.start()
    for _ in range(4):
        await first.pass_time(PERIOD)
        # The other node has not noticed yet, and can read what the first one makes.
        assert first.keyring.mac_keys.active in second.keyring.mac_keys.keys
        assert first.keyring.mac_keys.active == max(first.keyring.mac_keys.keys) - 1
        await second.keyring.refresh()


async def test_short_periods_do_not_use_up_the_versions_of_the_mac_key() -> None:
    node = await new_node(period=1.0, announce=0.5).start()
    for _ in range(50):
        await node.pass_time(10.0)
    assert len((await node.stored()).mac_keys) == 2
    assert len((await node.stored()).signing_keys) <= MAX_KEYS


# --- One key, one algorithm -------------------------------------------------------------------------------------------


async def test_hs256_is_never_published_and_its_tokens_are_good_here() -> None:
    node = await Node(ManualClock(), algorithm=HS256).start()
    assert node.keyring.jwks == ()
    issued = await node.issue()
    assert (await node.validate(issued.access_token)).reason is None
    assert node.keyring.signing_keys()[0].public_key == b""


async def test_change_from_hs256_publishes_only_public_keys() -> None:
    clock = NodeClock(TrueTime())
    node = await KeyNode(MemoryStores(clock), clock, algorithm=HS256).start()
    secret_key = await node.only("active")
    changed = KeyNode(node.stores, clock, algorithm=ES256, factory=node.factory)
    await changed.rotation.advance()
    await changed.pass_time(ANNOUNCE)
    assert changed.keyring.signer().algorithm is ES256
    kids = {jwk["kid"] for jwk in changed.keyring.jwks}
    assert secret_key.key_id not in kids
    assert kids == {key.key_id for key in await changed.all("active") + await changed.all("prepared")}
    assert all(jwk["kty"] == "EC" for jwk in changed.keyring.jwks)
    assert changed.keyring.key_set.get(secret_key.key_id)  # its tokens run on


@pytest.mark.parametrize("algorithm", [RS256, ES256, EDDSA])
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
            *(other.value for other in (RS256, ES256, EDDSA) if other is not algorithm),
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


# --- A module that is away --------------------------------------------------------------------------------------------


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
    assert not asked  # it costs nothing as long as all is well
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


async def test_a_refresh_token_is_not_used_up_while_nothing_can_be_signed() -> None:
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
