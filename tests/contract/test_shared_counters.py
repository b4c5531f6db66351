"""`SharedCounters` on Redis: nodes count together, exactly, under keys that expire and contain no names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from tests.support.redis import RedisServer
from token_service.core.policies.rates import MAX_AMOUNT, Rate
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess
from token_service.stores.redis.counters import RedisCounters

LOG = "epoch-one"


@pytest.fixture
async def pair(redis_url: str) -> AsyncIterator[tuple[RedisCounters, RedisCounters]]:
    async with (
        RedisCounters(RedisAccess.of(redis_url)) as one,
        RedisCounters(RedisAccess.of(redis_url)) as other,
    ):
        yield one, other


async def test_nodes_count_together_and_exactly(pair: tuple[RedisCounters, RedisCounters]) -> None:
    rate = Rate(25, 3600)
    few = asyncio.Semaphore(
        8
    )  # all calls at once would open 64 connections, which a busy machine does not do in a second

    async def take(node: RedisCounters) -> float:
        async with few:
            return await node.take(LOG, "k", rate)

    waits = await asyncio.gather(*(take(node) for node in pair * 40))
    assert waits.count(0.0) == 25
    refused = [wait for wait in waits if wait]
    assert len(refused) == 55
    assert all(3000 < wait <= 3600 for wait in refused)


async def test_keys_rates_and_logs_count_for_themselves(pair: tuple[RedisCounters, RedisCounters]) -> None:
    one, other = pair
    rate = Rate(1, 3600)
    assert await one.take(LOG, "k", rate) == 0
    assert await other.take(LOG, "k", rate) > 0
    assert await other.take(LOG, "l", rate) == 0
    assert await other.take("epoch-two", "k", rate) == 0
    assert await other.take(LOG, "k", Rate(2, 3600)) == 0


async def test_window_moves(redis_url: str, pair: tuple[RedisCounters, RedisCounters]) -> None:
    one, other = pair
    rate = Rate(1, 3600)
    assert await one.take(LOG, "k", rate) == 0
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        await redis.delete(key)
        await redis.lpush(key, time.time() - 3598.0)
    wait = await other.take(LOG, "k", rate)
    assert 0 < wait < 2.1
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(key)
        await redis.lpush(key, time.time() - 3600.5)
    assert await other.take(LOG, "k", rate) == 0


async def test_keys_have_the_prefix_and_the_hash_tag_of_the_log_and_expire(
    redis_url: str, pair: tuple[RedisCounters, RedisCounters]
) -> None:
    one, _ = pair
    await one.take(LOG, "0123abcd", Rate(MAX_AMOUNT, 60))
    for _ in range(10):
        await one.take(LOG, "0123abcd", Rate(3, 86_400))
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        keys = sorted(await redis.keys("*"))
        assert keys == [
            f"token_service:{{{LOG}}}:rate/0123abcd/100000/60/second",
            f"token_service:{{{LOG}}}:rate/0123abcd/3/86400/second",
        ]
        assert 0 < await redis.ttl(keys[0]) <= 60
        assert 0 < await redis.ttl(keys[1]) <= 86_400
        assert await redis.llen(keys[1]) == 3, "refused calls leave nothing"


async def test_largest_rate_is_counted(pair: tuple[RedisCounters, RedisCounters], redis_url: str) -> None:
    one, _ = pair
    rate = Rate(MAX_AMOUNT, 3600)
    assert await one.take(LOG, "k", rate) == 0
    async with Redis.from_url(redis_url) as redis:
        (key,) = await redis.keys("*")
        for _ in range(MAX_AMOUNT // 1000):
            await redis.lpush(key, *[time.time()] * 1000)
        assert await one.take(LOG, "k", rate) > 3000
        await redis.lpop(key, 2)
    assert await one.take(LOG, "k", rate) == 0


async def test_lost_redis_is_an_error_and_a_restarted_one_is_used() -> None:
    async with AsyncExitStack() as stack:
        server = stack.enter_context(RedisServer())
        counters = await stack.enter_async_context(RedisCounters(RedisAccess.of(server.url)))
        rate = Rate(1, 3600)
        assert await counters.take(LOG, "k", rate) == 0
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await counters.take(LOG, "k", rate)
        server.start()
        assert await counters.take(LOG, "k", rate) == 0
        assert await counters.take(LOG, "k", rate) > 0
        assert server.url not in repr(counters)


async def test_full_redis_is_an_error() -> None:
    with RedisServer(settings={"maxmemory": "100kb", "maxmemory-policy": "noeviction"}) as server:
        async with RedisCounters(RedisAccess.of(server.url)) as counters:
            with pytest.raises(StoreUnavailableError):
                await counters.take(LOG, "k", Rate(1, 60))
