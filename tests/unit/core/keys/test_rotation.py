"""The key schedule on one node: the first start, due steps, clocks that jump, MAC keys, a change from HS256."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.key_nodes import (
    ANNOUNCE,
    PERIOD,
    KeyFactory,
    KeyNode,
    NodeClock,
    TrueTime,
    draft,
    new_node,
    published,
)
from tests.unit.core.node import SYSTEM, Intercepted, Node
from tests.unit.core.virtual_time import LoopClock, ManualClock, cancelled, virtual_time
from token_service.core.keys.lifecycle import MAX_KEYS, PUBLISHED_AFTER_RETIREMENT
from token_service.core.keys.store import SigningKeyState
from token_service.core.policies.policy import DAY, Policy
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import parse_opaque_token

ES256, HS256 = Algorithm.ES256, Algorithm.HS256


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
    # The keys that the other nodes made are deleted from the provider.
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


async def test_database_with_only_a_revoked_key_gets_a_new_one() -> None:
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


async def test_a_rotation_announces_activates_retires_and_deletes_each_key() -> None:
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


async def test_clock_jump_ahead_removes_no_key_of_a_valid_token() -> None:
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


async def test_clock_jump_ahead_lets_no_unannounced_key_sign() -> None:
    node = await new_node().start()
    first = await node.only("active")
    await node.rotation.advance()
    node.clock.skew = 400 * DAY
    await node.pass_time(ANNOUNCE - 1)
    assert node.keyring.signer().key_id == first.key_id
    await node.pass_time(1)
    assert node.keyring.signer().key_id != first.key_id  # early, but every subscriber knows it


async def test_rotations_continue_at_their_period_after_a_clock_was_set_back() -> None:
    node = await new_node().start()
    node.clock.skew = 400 * DAY
    await node.pass_time(ANNOUNCE)  # rotates, because a rotation seems due
    ahead = await node.only("active")
    node.clock.skew = 0.0
    await node.pass_time(ANNOUNCE)  # activation time unknown: the next key takes over
    corrected = await node.only("active")
    assert corrected.key_id != ahead.key_id
    await node.pass_time(PERIOD - 1, look=3)
    assert (await node.only("active")).key_id == corrected.key_id
    await node.pass_time(ANNOUNCE, look=3)
    assert (await node.only("active")).key_id != corrected.key_id


async def test_the_versions_of_the_mac_key_survive_jumps() -> None:
    node = await new_node().start()
    for skew in (400 * DAY, 0.0, -400 * DAY, 0.0, 400 * DAY):
        node.clock.skew = skew
        for _ in range(20):
            await node.rotation.advance()
    assert sorted(node.keyring.mac_keys.keys)[:2] == [1, 2]
    assert len(node.keyring.mac_keys.keys) <= 2 + 5


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
    # Tokens made with the first version are still good.
    assert version_of(node, untouched.refresh_token) == 1
    assert (await node.validate(untouched.refresh_token)).reason is None
    assert (await node.validate(untouched.session_token)).reason is None
    assert (await node.refresh(untouched.refresh_token)).refresh_token
    assert (await node.validate(issued.session_token)).reason is None


async def test_short_periods_do_not_use_up_the_versions_of_the_mac_key() -> None:
    node = await new_node(period=1.0, announce=0.5).start()
    for _ in range(50):
        await node.pass_time(10.0)
    assert len((await node.stored()).mac_keys) == 2
    assert len((await node.stored()).signing_keys) <= MAX_KEYS


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
    assert changed.keyring.key_set.get(secret_key.key_id)  # its tokens stay valid
