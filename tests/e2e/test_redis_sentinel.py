"""Nodes under load while Sentinel replaces the master of Redis, configured as docs/production.md shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.contract.bff.test_session_store import NOW, session
from tests.e2e.redis_features import use_everything
from tests.e2e.redis_files import RedisFiles
from tests.e2e.redis_page import rules, url
from tests.e2e.redis_world import Load, World, world
from tests.support.deadline import eventually
from tests.support.redis import RedisServer
from tests.support.redis7 import find_redis_7, libraries
from tests.support.redis_sentinel import RedisSentinels
from token_service.bff.store import StoredSession
from token_service.bff.stores.redis import RedisSessionStore
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess, RedisTls
from token_service.stores.redis import RedisMirror


@pytest.fixture
def sentinels() -> Iterator[RedisSentinels]:
    with RedisSentinels() as made:
        set_users(made)
        yield made


def set_users(sentinels: RedisSentinels, *more: str) -> None:
    """Create the users of the page at all servers and sentinels."""
    for server in sentinels.servers:
        with server.client() as client:
            client.execute_command("ACL SETUSER", "token-service", *rules("acl"))
    for number in range(len(sentinels.sentinels)):
        with sentinels.sentinel(number) as client:
            client.execute_command("ACL SETUSER", "nodes", "reset", *(more or rules("sentinel-acl")))


def address(sentinels: RedisSentinels, *, tls: bool = False) -> str:
    """Return the URL of the page with the ports of the test."""
    return url("sentinel", ",".join(f"127.0.0.1:{port}" for port in sentinels.ports), tls=tls)


def environment(sentinels: RedisSentinels) -> dict[str, str]:
    return {
        "TOKEN_SERVICE_REDIS_URL": address(sentinels),
        "TOKEN_SERVICE_REDIS_PASSWORD": "password",
    }


async def replaced(sentinels: RedisSentinels, old: RedisServer) -> RedisServer:
    """Wait for another master, and return it."""

    def other() -> RedisServer | None:
        master = sentinels.master()
        return None if master is old else master

    return await eventually(lambda: asyncio.to_thread(other))


async def assert_follows(two: World, load: Load, sentinels: RedisSentinels, old: RedisServer) -> None:
    """Check that nodes lose nothing, and use the new master; then that the old one becomes its replica."""
    await two.is_away()
    await two.counts_alone()
    await load.go_on()
    await two.reached(load)  # by SQL alone
    new = await replaced(sentinels, old)
    await two.is_used()
    await two.counts_together()
    await load.go_on()
    assert f"using the Redis server 127.0.0.1:{new.port}, the master of tokens" in two.logs()
    if old.running:
        old.resume()
    else:
        await asyncio.to_thread(old.start)  # empty, and a master by its configuration
    await asyncio.to_thread(sentinels.wait_until_ready)
    await load.go_on()
    await two.is_used()
    assert await asyncio.to_thread(sentinels.master) is new
    await two.counts_together()
    await two.counts_alone()


async def assert_agrees(two: World, load: Load, sentinels: RedisSentinels) -> None:
    """Check that the master has what the log has, and so have the replicas."""
    await two.reached(load)
    for server in sorted(sentinels.servers, key=lambda each: each is not sentinels.master()):
        async with Redis.from_url(server.url, decode_responses=True) as reader:
            await two.agrees(reader, load)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_replaced_master_costs_no_call_and_no_revocation(
    sentinels: RedisSentinels, postgres_url: str, how: str
) -> None:
    async with world(postgres_url, environment(sentinels)) as two:
        async with two.load() as load:
            await load.go_on()
            await two.counts_together()
            old = sentinels.master()
            if how == "killed":
                old.kill()
            else:
                old.pause()
            await assert_follows(two, load, sentinels, old)
        await assert_agrees(two, load, sentinels)


async def test_stopped_sentinel_changes_nothing(sentinels: RedisSentinels, postgres_url: str) -> None:
    sentinels.sentinels[0].pause()
    async with world(postgres_url, environment(sentinels)) as two:
        async with two.load() as load:
            await load.go_on()
            await two.counts_together()
            sentinels.sentinels[0].resume()
            sentinels.sentinels[1].kill()
            await load.go_on()
        await two.reached(load)
        async with Redis.from_url(sentinels.master().url, decode_responses=True) as reader:
            await two.agrees(reader, load)
        await two.is_used()


async def test_sentinels_and_servers_have_tls(tmp_path: Path) -> None:
    files = RedisFiles(tmp_path).write()
    tls = RedisTls(files.path("ca.pem"), files.path("client.pem"), files.path("client.key"))
    with RedisSentinels(tls=files.server) as sentinels:
        set_users(sentinels)
        await use_everything(RedisAccess.of(address(sentinels, tls=True), "password", tls), "epoch")
        other = RedisTls(files.path("other-ca.pem"), files.path("client.pem"), files.path("client.key"))
        access = RedisAccess.of(address(sentinels, tls=True), "password", other)
        with pytest.raises(StoreUnavailableError, match="the certificate of the server is refused"):
            await use_everything(access, "epoch")


async def test_user_of_the_sentinels_needs_each_rule_and_no_other(sentinels: RedisSentinels) -> None:
    access = RedisAccess.of(address(sentinels), "password")
    await use_everything(access, "epoch")
    for rule in rules("sentinel-acl"):
        set_users(sentinels, *(each for each in rules("sentinel-acl") if each != rule))
        with pytest.raises(
            StoreUnavailableError, match=r"none of 127.0.0.1:\d+, .* names the master of tokens"
        ):
            await use_everything(access, "epoch")
    set_users(sentinels)
    for number in range(len(sentinels.sentinels)):
        with sentinels.sentinel(number) as client:
            assert {each["object"] for each in client.acl_log()} <= {
                "AUTH",
                "sentinel|get-master-addr-by-name",
            }
    await use_everything(access, "other")


async def test_unknown_master_is_explained(sentinels: RedisSentinels) -> None:
    wrong = address(sentinels).replace("/tokens?", "/tokns?")
    async with RedisMirror(RedisAccess.of(wrong, "password")) as mirror:
        with pytest.raises(
            StoreUnavailableError, match="the master of tokns: it is not known there"
        ) as caught:
            await mirror.position("epoch")
    assert "secret" not in caught.value.message


async def test_nodes_on_both_sides_of_a_partition_lose_nothing(postgres_url: str) -> None:
    """One node still uses the old master, which answers, and the other one uses the new master."""
    with RedisServer(binary=find_redis_7(), env=libraries()) as old, RedisServer() as new:
        sides = [{"TOKEN_SERVICE_REDIS_URL": server.url} for server in (old, new)]
        async with world(postgres_url, *sides) as two:
            async with two.load() as load:
                await load.go_on(24)
                await two.reached(load)
                await two.counts_alone()
            await two.is_used()
            for server in (old, new):
                async with Redis.from_url(server.url, decode_responses=True) as reader:
                    await two.agrees(reader, load)


async def test_sessions_of_browsers_go_on_after_a_failover(sentinels: RedisSentinels) -> None:
    async with RedisSessionStore.opened(sentinels.url, prefix="shop", timeout=1) as store:
        await store.create(session(), NOW, None)
        master = sentinels.master()
        async with Redis.from_url(master.url) as admin:
            await eventually(lambda: admin.wait(2, 1000))
        master.kill()
        with pytest.raises(StoreUnavailableError, match="the session store is unavailable"):
            await store.load("key", NOW)

        async def loaded() -> StoredSession | None:
            try:
                return await store.load("key", NOW)
            except StoreUnavailableError:
                return None

        assert await eventually(loaded) == session()
        assert await store.lease("key", "holder", NOW, NOW + 5) == session()
