"""Nodes under load while a Redis Cluster fails over and moves their slot, configured as docs/production.md shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio.cluster import ClusterNode, RedisCluster

from tests.contract.bff.test_session_store import NOW, session
from tests.e2e.redis_features import entry, use_everything
from tests.e2e.redis_files import RedisFiles
from tests.e2e.redis_page import rules, url
from tests.e2e.redis_world import Load, World, world
from tests.support.deadline import eventually
from tests.support.redis import RedisServer
from tests.support.redis_cluster import RedisClusterServers
from token_service.bff.stores.redis import RedisSessionStore
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess, RedisTls
from token_service.stores.redis import RedisMirror

RULES = [*rules("acl"), *rules("cluster-acl")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    with RedisClusterServers() as made:
        yield made


@pytest.fixture(autouse=True)
def whole(cluster: RedisClusterServers) -> None:
    """Start what the last test has killed, and create the user."""
    for server in cluster.servers:
        server.start()
    cluster.wait_until_whole()
    set_user(cluster, RULES)


def set_user(cluster: RedisClusterServers, given: list[str]) -> None:
    """Create the user of the page at all nodes. ACLs are not replicated."""
    for server in cluster.servers:
        with server.client() as client:
            client.execute_command("ACL SETUSER", "token-service", "reset", *given)


def address(cluster: RedisClusterServers, *, tls: bool = False) -> str:
    """Return the URL of the page with the ports of the test."""
    return url("cluster", ",".join(f"127.0.0.1:{server.port}" for server in cluster.servers[:3]), tls=tls)


def access(cluster: RedisClusterServers) -> RedisAccess:
    return RedisAccess.of(address(cluster), "password")


def environment(cluster: RedisClusterServers) -> dict[str, str]:
    return {
        "TOKEN_SERVICE_REDIS_URL": address(cluster),
        "TOKEN_SERVICE_REDIS_PASSWORD": "password",
    }


async def slot_key(two: World) -> str:
    """Return a key of the slot of the log."""
    head = await two.apis[0].confirm("", "")
    return f"token_service:{{{head.partition(':')[0]}}}:head"


async def assert_agrees(two: World, load: Load, cluster: RedisClusterServers) -> None:
    await two.reached(load)
    nodes = [ClusterNode("127.0.0.1", server.port) for server in cluster.servers]
    async with RedisCluster(startup_nodes=nodes, password=cluster.password, decode_responses=True) as reader:
        await two.agrees(reader, load)


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_replaced_master_costs_no_call_and_no_revocation(
    cluster: RedisClusterServers, postgres_url: str, how: str
) -> None:
    async with world(postgres_url, environment(cluster)) as two:
        async with two.load() as load:
            await load.go_on()
            await two.counts_together()
            key = await slot_key(two)
            old = await asyncio.to_thread(cluster.owner, key)
            if how == "killed":
                old.kill()
            else:
                old.pause()
            await two.is_away()
            await two.counts_alone()
            await load.go_on()
            await two.reached(load)  # by SQL alone

            def other() -> RedisServer | None:
                owner = cluster.owner(key)
                return None if owner is old else owner

            new = await eventually(lambda: asyncio.to_thread(other))
            await two.is_used()
            await two.counts_together()
            await load.go_on()
            assert f"using the Redis server 127.0.0.1:{new.port}, the owner of slot" in two.logs()
            if old.running:
                old.resume()
            else:
                await asyncio.to_thread(old.start)
            await asyncio.to_thread(cluster.wait_until_whole)
            await load.go_on()
            await two.is_used()
            await two.counts_together()
        await assert_agrees(two, load, cluster)


async def test_moved_slot_costs_no_call_and_no_revocation(
    cluster: RedisClusterServers, postgres_url: str
) -> None:
    async with world(postgres_url, environment(cluster)) as two:
        async with two.load() as load:
            await load.go_on()
            await two.counts_together()
            for key in (await slot_key(two), "token_service:epoch"):
                source, target = await asyncio.to_thread(cluster.begin_move, key)
                await load.go_on()
                await two.counts_alone()
                await asyncio.to_thread(cluster.move_keys, key, source, target, 5)
                await load.go_on()
                await two.counts_alone()
                await two.reached(load)
                await asyncio.to_thread(cluster.end_move, key, source, target)
                await load.go_on()
                await two.is_used()
                await two.counts_together()
                assert f"using the Redis server 127.0.0.1:{target.port}, the owner of slot" in two.logs()
        await assert_agrees(two, load, cluster)


async def test_each_rule_for_a_cluster_is_needed(cluster: RedisClusterServers) -> None:
    await use_everything(access(cluster), "epoch")
    set_user(cluster, [rule for rule in RULES if rule != "+cluster|slots"])
    with pytest.raises(StoreUnavailableError, match=r"none of .* names the owner of slot"):
        await use_everything(access(cluster), "epoch")


async def test_command_follows_its_key_to_where_the_slot_moves(cluster: RedisClusterServers) -> None:
    key = "token_service:{moving}:head"
    async with RedisMirror(access(cluster)) as mirror:
        await use_everything(access(cluster), "moving")
        before = await mirror.position("moving")
        assert before
        source, target = await asyncio.to_thread(cluster.begin_move, key)
        assert await asyncio.to_thread(cluster.move_keys, key, source, target, 1000) > 0
        assert await mirror.position("moving") == before, "ASK"
        set_user(cluster, [rule for rule in RULES if rule != "+asking"])
        with pytest.raises(StoreUnavailableError, match="asking"):
            await mirror.position("moving")
        set_user(cluster, RULES)
        assert await mirror.position("moving") == before, "connects to the old owner again"
        await asyncio.to_thread(cluster.end_move, key, source, target)
        assert await mirror.position("moving") == before, "MOVED"
        assert mirror.server == f"127.0.0.1:{target.port}"


async def test_sessions_are_never_missing_while_their_slot_moves(cluster: RedisClusterServers) -> None:
    """A session that is not where it is looked for would log its user out."""
    key = "{shop}:s:key"
    seats = f"redis+cluster://:{cluster.password}@127.0.0.1:{cluster.servers[0].port}"
    async with RedisSessionStore.opened(seats, prefix="shop", timeout=1) as store:
        await store.create(session(), NOW, None)
        await store.create(session("other"), NOW, None)
        source, target = await asyncio.to_thread(cluster.begin_move, key)
        while True:
            for name in ("key", "other"):
                assert await store.load(name, NOW) == session(name)
                assert await store.lease(name, "holder", NOW, NOW + 5) == session(name)
                await store.release(name, "holder")
            with pytest.raises(StoreUnavailableError):
                await store.create(session("third"), NOW, None)
            if not await asyncio.to_thread(cluster.move_keys, key, source, target, 1):
                break
        await asyncio.to_thread(cluster.end_move, key, source, target)
        await store.create(session("third"), NOW, None)
        for name in ("key", "other", "third"):
            assert await store.load(name, NOW) == session(name)


async def test_node_of_a_cluster_as_a_single_server_is_explained(cluster: RedisClusterServers) -> None:
    key = "token_service:{epoch}:head"
    owner = cluster.owner(key)
    wrong = next(server for server in cluster.servers if server is not owner)
    async with RedisMirror(RedisAccess.of(wrong.url)) as mirror:
        with pytest.raises(StoreUnavailableError, match=r"write redis\+cluster:// in the URL"):
            await mirror.publish("epoch", [entry(1, of_token=True)])


async def test_nodes_of_a_cluster_have_tls(tmp_path: Path) -> None:
    files = RedisFiles(tmp_path).write()
    tls = RedisTls(files.path("ca.pem"), files.path("client.pem"), files.path("client.key"))
    with RedisClusterServers(tls=files.server) as secure:
        set_user(secure, RULES)
        await use_everything(RedisAccess.of(address(secure, tls=True), "password", tls), "epoch")
