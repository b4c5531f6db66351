"""The key schedule on several nodes: the leader and its successor, steps that two nodes take at once, and different
settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.key_nodes import (
    ANNOUNCE,
    PERIOD,
    KeyFactory,
    KeyNode,
    KeyRotatingWrap,
    NodeClock,
    TrueTime,
    new_node,
    pair,
    published,
)
from tests.unit.core.node import SYSTEM, Intercepted
from tests.unit.core.virtual_time import LoopClock, cancelled, virtual_time
from token_service.core.keys.store import SigningKeyState
from token_service.tokens.algorithms import Algorithm

ES256, EDDSA = Algorithm.ES256, Algorithm.EDDSA


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
    assert await stores.leases.acquire("keys", "another", 1)


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
async def test_node_with_unusable_keys_does_not_lead_and_logs_once(
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
    # The key that was made and not saved is deleted from the provider.
    assert len(first.factory.destroyed) == 1
    assert slow.keyring.revision == (await slow.stored()).revision


async def test_rotation_of_a_node_killed_at_any_point_is_continued_by_the_next() -> None:
    """Cut a node off before or after each of its calls. Another node takes over."""
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


async def test_a_version_is_known_to_every_node_for_a_period_before_tokens_are_made_with_it() -> None:
    first, second = pair()
    await first.start()
    await second.start()
    for _ in range(4):
        await first.pass_time(PERIOD)
        # The other node has not noticed yet and can read the tokens of the first one.
        assert first.keyring.mac_keys.active in second.keyring.mac_keys.keys
        assert first.keyring.mac_keys.active == max(first.keyring.mac_keys.keys) - 1
        await second.keyring.refresh()


async def test_a_change_of_algorithm_while_nodes_are_configured_differently() -> None:
    """Restart nodes one by one with another algorithm. Whichever node leads, no token has a key that a node does not know."""
    old_node, new_config = pair(algorithm=ES256)
    await old_node.start()
    await old_node.rotation.advance()
    first = await old_node.only("active")
    new_config = KeyNode(
        old_node.stores, new_config.clock, algorithm=EDDSA, factory=old_node.factory, node_id="node-2"
    )
    await new_config.start()
    assert new_config.keyring.signer().key_id == first.key_id  # no other key exists yet
    await new_config.rotation.advance()
    assert new_config.keyring.signer().key_id == first.key_id
    await old_node.rotation.advance()
    coming = await new_config.only("prepared", EDDSA)
    assert coming.key_id in {jwk["kid"] for jwk in old_node.keyring.jwks}
    await new_config.pass_time(ANNOUNCE)
    assert new_config.keyring.signer().key_id == coming.key_id
    await old_node.keyring.refresh()
    assert old_node.keyring.signer().key_id == coming.key_id  # the old key is retired
    # A node with the old algorithm that leads again goes back to it, with a key that all nodes know.
    await old_node.pass_time(ANNOUNCE)
    back = await old_node.only("active")
    assert back.algorithm is ES256
    assert (await old_node.states())[coming.key_id] == "retired"
    await new_config.pass_time(ANNOUNCE, look=2)
    assert (await new_config.only("active")).algorithm is EDDSA
    # All of them are still published.
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
