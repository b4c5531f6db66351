"""A key signs after its announce time, or after all connected subscribers have confirmed it."""

from __future__ import annotations

import pytest

from tests.unit.core.key_nodes import ANNOUNCE, new_node, pair
from tests.unit.core.node import SYSTEM
from token_service.core.keys.store import SigningKeyState
from token_service.core.policies.policy import DAY
from token_service.errors import KeyNotAnnouncedError


async def test_a_due_rotation_waits_for_connected_subscribers_but_not_for_ever() -> None:
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


async def test_a_rotation_waits_for_the_subscribers_of_other_nodes_too() -> None:
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


async def test_clock_set_back_does_not_delay_an_announced_key() -> None:
    node = await new_node().start()
    await node.pass_time(ANNOUNCE)
    node.clock.skew = -500 * DAY
    spare = await node.only("prepared")
    assert (await node.manager.activate(SYSTEM, spare.key_id, force=False)).state is SigningKeyState.ACTIVE


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


async def test_activate_does_not_wait_when_all_connected_subscribers_have_confirmed() -> None:
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
    assert await is_refused()  # a subscriber of another node has not confirmed
    second.subscribers.confirm("there", 0, second.keyring.revision - 1)
    await second.reports.write()
    assert await is_refused()  # that subscriber has an older key set
    second.subscribers.confirm("there", 0, second.keyring.revision)
    await second.reports.write()
    assert not await is_refused()
    # Also if only other nodes have subscribers: the command line has none of its own.
    another = await second.manager.prepare(SYSTEM, None)
    await second.reports.write()
    first.subscribers.disconnect("here")
    second.subscribers.confirm("there", 0, second.keyring.revision)
    await second.reports.write()
    await first.manager.activate(SYSTEM, another.key_id, force=False)
