"""Calls with unknown keys share their lookups in the log."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.unit.core.two_nodes import TwoNodes
from tests.unit.core.virtual_time import (
    cancelled,
    virtual_time,
)
from token_service.errors import StoreUnavailableError


@virtual_time
async def test_calls_with_unknown_keys_share_one_look():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await asyncio.sleep(5)
        keys = nodes.stores.keys
        stored = await keys.load()
        assert await keys.save(stored.revision, (), (replace(stored.mac_keys[0]),))

        async def slowly() -> None:
            await asyncio.sleep(0.2)

        nodes.log.before["head"] = slowly
        nodes.log.calls.clear()
        tasks = []
        for _ in range(5):
            tasks.append(asyncio.create_task(nodes.key_lookups.look()))
            await asyncio.sleep(0.02)
        assert await asyncio.gather(*tasks) == [True] * 5
        assert nodes.log.calls.count("head") == 1


@virtual_time
async def test_unavailable_store_fails_all_key_lookups_together():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await asyncio.sleep(5)

        async def hang() -> None:
            await asyncio.sleep(3)
            raise StoreUnavailableError

        nodes.log.before["head"] = hang
        tasks = [asyncio.create_task(nodes.key_lookups.look()) for _ in range(5)]
        async with asyncio.timeout(3.1):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        # All of them fail: without a lookup a key does not count as unknown.
        assert [type(result) for result in results] == [StoreUnavailableError] * 5


@virtual_time
async def test_cancelled_key_lookup_does_not_cancel_other_lookups():
    async with TwoNodes(poll_interval=60, max_staleness=300) as nodes:
        await asyncio.sleep(5)
        stored = await nodes.stores.keys.load()
        assert await nodes.stores.keys.save(stored.revision, (), (stored.mac_keys[0],))

        async def slowly() -> None:
            await asyncio.sleep(1)

        nodes.log.before["head"] = slowly
        first, second = (asyncio.create_task(nodes.key_lookups.look()) for _ in range(2))
        await asyncio.sleep(0.5)
        await cancelled(first)
        assert await second
