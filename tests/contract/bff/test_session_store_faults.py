"""Session stores whose backend is away, slow or full of dead sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis, RedisCluster
from sqlalchemy.ext.asyncio import create_async_engine

from tests.contract.bff.test_session_store import NOW, logout, session
from tests.support.deadline import eventually
from tests.support.postgres import PostgresServer
from tests.support.redis import RedisServer
from tests.support.session_stores import opened_store
from token_service.bff import SessionStore
from token_service.bff.stores.redis import RedisSessionStore
from token_service.bff.stores.sql import SqlSessionStore
from token_service.errors import ConfigurationError, StoreUnavailableError


async def require_unavailable(store: SessionStore) -> None:
    for call in (
        store.create(session("other"), NOW, None),
        store.load("key", NOW),
        store.touch("key", NOW + 200),
        store.lease("key", "a", NOW, NOW + 1),
        store.release("key", "a"),
        store.replace("key", 1, "new"),
        store.delete("key"),
        store.log_out(logout(sid="sid"), NOW),
        store.use_once("name", NOW + 1, NOW),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            await call
        assert caught.value.retry_after
        assert "sealed" not in caught.value.message


async def test_stopped_redis_is_unavailable_and_comes_back(private_redis: RedisServer) -> None:
    async with opened_store(private_redis.url) as store:
        await store.create(session(), NOW, None)
        private_redis.stop()
        await require_unavailable(store)
        private_redis.start()
        await store.create(session(), NOW, None)
        assert await store.load("key", NOW) == session()


async def test_hanging_redis_is_unavailable_after_the_timeout(private_redis: RedisServer) -> None:
    async with opened_store(private_redis.url, timeout=0.1) as store:
        private_redis.pause()
        await require_unavailable(store)
        private_redis.resume()


async def test_stopped_postgresql_is_unavailable_and_comes_back(private_postgres: PostgresServer) -> None:
    async with opened_store(private_postgres.create_database()) as store:
        assert isinstance(store, SqlSessionStore)
        await store.create_tables()
        await store.create(session(), NOW, None)
        private_postgres.kill()
        await require_unavailable(store)
        private_postgres.start()
        assert await store.load("key", NOW) == session()


async def test_hanging_postgresql_is_unavailable_after_the_timeout(private_postgres: PostgresServer) -> None:
    url = private_postgres.create_database()
    async with opened_store(url) as ready:
        assert isinstance(ready, SqlSessionStore)
        await ready.create_tables()
        async with opened_store(url, timeout=0.1) as store:
            private_postgres.pause()
            await require_unavailable(store)
            private_postgres.resume()


async def test_dead_rows_are_deleted_while_others_are_created(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/sessions.db")
    store = SqlSessionStore(engine)
    await store.create_tables()
    await store.create(session("expired", expire_time=NOW + 1), NOW, None)
    await store.create(session("idle", idle_expire_time=NOW + 1), NOW, None)
    await store.create(session("live"), NOW, None)
    await store.use_once("name", NOW + 1, NOW)
    await store.create(session("new", idle_expire_time=NOW + 900), NOW + 60, None)
    async with engine.begin() as connection:
        left = (await connection.execute(sa.text("SELECT key FROM bff_sessions ORDER BY key"))).scalars()
        assert list(left) == ["live", "new"]
        assert (await connection.execute(sa.text("SELECT count(*) FROM bff_used_names"))).scalar() == 0
    await engine.dispose()


async def test_every_key_in_redis_ends_by_itself(redis_url: str) -> None:
    async with opened_store(redis_url) as store, Redis.from_url(redis_url, decode_responses=True) as client:
        await store.create(session("a"), NOW, None)
        await store.create(session("b", expire_time=NOW + 2000, idle_expire_time=NOW + 1000), NOW, None)
        await store.touch("a", NOW + 400)
        await store.use_once("name", NOW + 60, NOW)
        left = {key: await client.pttl(key) / 1000 for key in await client.keys("*")}
        expected = {
            "{test}:s:a": 400, "{test}:s:b": 1000, "{test}:sub:alice": 2000, "{test}:sid:sid": 2000, "{test}:used:name": 60,
        }  # fmt: skip
        assert left.keys() == expected.keys()
        for key, seconds in expected.items():
            assert seconds - 120 < left[key] <= seconds + 1, key  # a busy machine takes its time
        await store.log_out(logout(sid="sid"), NOW)
        assert sorted(await client.keys("*")) == ["{test}:used:jti", "{test}:used:name"], "no index is left"


async def test_store_works_with_a_client_that_decodes(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        store = RedisSessionStore(client)
        await store.create(session(), NOW, None)
        assert await store.lease("key", "a", NOW, NOW + 1) == session()


async def test_all_keys_of_a_store_are_in_one_slot_of_a_cluster() -> None:
    with RedisServer(settings={"cluster-enabled": "yes"}) as server:
        async with Redis.from_url(server.url, decode_responses=True) as client:
            await client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))

            async def is_ready() -> bool:
                info = await client.execute_command("CLUSTER INFO")
                return bool(info["cluster_state"] == "ok")

            await eventually(is_ready)
        async with RedisCluster.from_url(server.url) as cluster:
            store = RedisSessionStore(cluster, timeout=60)
            await store.create(session("a"), NOW, 2)
            await store.create(session("b"), NOW, 2)
            assert await store.lease("a", "holder", NOW, NOW + 5) == session("a")
            assert await store.replace("a", 1, "new")
            assert await store.use_once("name", NOW + 5, NOW)
            assert await store.log_out(logout(sid="sid"), NOW) == 2
            assert await store.load("a", NOW) is None


def test_prefix_must_keep_the_hash_tag() -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisSessionStore(Redis(), prefix="a}b")
