"""PreviewKeyRetirement says what RetireSigningKey does at the same moment."""

from __future__ import annotations

import pytest

from tests.unit.core.node import SYSTEM, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import KeyNotFoundError, ServiceError


@pytest.fixture
async def node() -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12).start()


async def agrees(node: Node[ManualClock], key_id: str, *, allowed: bool) -> str:
    """Compare a preview with the retirement that follows it; return the problem."""
    before = await node.stores.keys.load()
    preview = await node.key_manager.preview_retirement(key_id)
    assert await node.stores.keys.load() == before
    assert (not preview.problem) == allowed
    if allowed:
        await node.key_manager.retire(SYSTEM, key_id)
    else:
        with pytest.raises(ServiceError) as refused:
            await node.key_manager.retire(SYSTEM, key_id)
        assert refused.value.message == preview.problem
        assert await node.stores.keys.load() == before
    return preview.problem


async def forget_spares(node: Node[ManualClock]) -> str:
    """Leave the active key alone, and return it."""
    active = node.keyring.signer().key_id
    for key_id in list(node.stores.keys._state.signing_keys):
        if key_id != active:
            del node.stores.keys._state.signing_keys[key_id]
    return active


async def test_only_key_can_not_be_retired(node: Node[ManualClock]) -> None:
    active = await forget_spares(node)
    assert "prepare another one first" in await agrees(node, active, allowed=False)
    assert (await node.key_manager.preview_retirement(active)).allow_time is None


async def test_successor_must_be_announced_and_the_time_is_told(node: Node[ManualClock]) -> None:
    active = await forget_spares(node)
    prepared = (await node.key_manager.prepare(SYSTEM, None)).key_id
    node.clock.elapsed += 100
    preview = await node.key_manager.preview_retirement(active)
    assert f"key {prepared} is published for 600 s" in preview.problem
    assert preview.allow_time == pytest.approx(node.clock.now() + 500, abs=1)
    assert preview.tokens_expire_time == pytest.approx(node.clock.now() + PUBLISHED_AFTER_RETIREMENT)
    await agrees(node, active, allowed=False)
    node.clock.elapsed += 501
    await agrees(node, active, allowed=True)


async def test_subscribers_without_the_successor_are_named(node: Node[ManualClock]) -> None:
    active = await forget_spares(node)
    await node.key_manager.prepare(SYSTEM, None)
    revision = (await node.stores.keys.load()).revision
    for name, known in (("old", revision - 1), ("new", revision), ("silent", 0)):
        node.subscribers.connect(name)
        node.subscribers.confirm(name, 0, known)
    await node.stores.nodes.report(NodeReport("behind", 3, [(0, 3)], [], revision - 1))
    await node.stores.nodes.report(NodeReport("current", 3, [(0, 3)], [], revision, epoch=node.replica.epoch))
    await node.stores.nodes.report(NodeReport("empty", 0, [], [], 0))
    knowledge = (await node.key_manager.preview_retirement(active)).knowledge
    assert (knowledge.connected, knowledge.behind) == (9, 3)
    assert (knowledge.behind_here, knowledge.behind_nodes) == (["old", "silent"], ["behind"])
    await agrees(node, active, allowed=False)


async def test_confirmations_of_all_allow_it_before_the_announce_time(node: Node[ManualClock]) -> None:
    active = await forget_spares(node)
    await node.key_manager.prepare(SYSTEM, None)
    node.subscribers.connect("api")
    await agrees(node, active, allowed=False)
    node.subscribers.confirm("api", 0, (await node.stores.keys.load()).revision)
    await agrees(node, active, allowed=True)


async def test_keys_of_other_states(node: Node[ManualClock]) -> None:
    with pytest.raises(KeyNotFoundError):
        await node.key_manager.preview_retirement("no-key")
    active = await forget_spares(node)
    prepared = (await node.key_manager.prepare(SYSTEM, None)).key_id
    assert (await node.key_manager.preview_retirement(prepared)).tokens_expire_time is None
    node.clock.elapsed += 601
    await agrees(node, active, allowed=True)
    retired_at = node.clock.now()
    node.clock.elapsed += 50
    again = await node.key_manager.preview_retirement(active)
    assert again.tokens_expire_time == pytest.approx(retired_at + PUBLISHED_AFTER_RETIREMENT, abs=1e-3)
    await agrees(node, active, allowed=True)  # a retired key is a success
