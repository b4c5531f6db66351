"""Changes of the key table: overtaken by other nodes, cancelled, or failed after their caller has left."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.unit.core.key_nodes import KeyNode, new_node, pair
from tests.unit.core.node import SYSTEM, Intercepted
from tests.unit.core.virtual_time import settle
from token_service.errors import OverloadedError, StoreUnavailableError


async def test_change_that_is_always_overtaken_fails_after_a_limit() -> None:
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


async def test_decision_is_applied_although_its_caller_disconnects() -> None:
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


async def test_failure_after_its_caller_disconnected_is_retrieved() -> None:
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
