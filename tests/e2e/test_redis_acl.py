"""The rules of docs/production.md for the user of Redis are enough, and each of them is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from redis.asyncio import Redis

from tests.e2e.redis_features import use_everything
from tests.e2e.redis_page import rules
from tests.e2e.redis_world import world
from tests.support.redis import RedisServer
from tests.support.redis7 import find_redis_7, libraries
from token_service.errors import StoreUnavailableError
from token_service.redis_clients import RedisAccess

RULES = rules("acl")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(binary=find_redis_7(), env=libraries()) as made:
        yield made


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        client.script_flush()
        client.acl_log_reset()
        yield client


def set_user(admin: redis.Redis, *given: str) -> None:
    admin.execute_command("ACL SETUSER", "token-service", "reset", *given)


def access(server: RedisServer, password: str = "password") -> RedisAccess:
    return RedisAccess.of(f"redis://token-service@127.0.0.1:{server.port}", password)


async def test_rules_are_enough_for_all_features(server: RedisServer, admin: redis.Redis) -> None:
    set_user(admin, *RULES)
    await use_everything(access(server), "epoch")
    assert admin.acl_log() == []


@pytest.mark.parametrize("rule", RULES)
async def test_each_rule_is_needed(server: RedisServer, admin: redis.Redis, rule: str) -> None:
    set_user(admin, *(each for each in RULES if each != rule))
    with pytest.raises(StoreUnavailableError) as caught:
        await use_everything(access(server), "epoch")
    denied = admin.acl_log()[0]
    if rule.startswith("+"):
        assert (denied["reason"], denied["object"]) == ("command", rule[1:])
    # The error tells more than its type, and no key and no value.
    assert (
        "rules of the documentation" in caught.value.message
        or "the user or the password" in caught.value.message
    )
    assert not any(text in caught.value.message for text in ("epoch", "name-", "token_service"))


async def test_user_sees_nothing_of_other_applications(server: RedisServer, admin: redis.Redis) -> None:
    set_user(admin, *RULES)
    admin.set("other", "1")
    async with Redis(port=server.port, username="token-service", password="password") as user:
        for command in (
            ("GET", "other"),
            ("KEYS", "*"),
            ("CONFIG", "GET", "*"),
            ("FLUSHALL",),
            ("PUBLISH", "a", "b"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                await user.execute_command(*command)


async def test_wrong_password_is_explained_without_it(server: RedisServer, admin: redis.Redis) -> None:
    set_user(admin, *RULES)
    with pytest.raises(StoreUnavailableError, match="refuses the user or the password") as caught:
        await use_everything(access(server, "hunter2"), "epoch")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(access(server, "hunter2"))


async def test_nodes_need_no_other_rule(server: RedisServer, admin: redis.Redis, postgres_url: str) -> None:
    set_user(admin, *RULES)
    env = {"TOKEN_SERVICE_REDIS_URL": f"redis://token-service:password@127.0.0.1:{server.port}/0"}
    async with world(postgres_url, env) as two, two.load() as load:
        await load.go_on()
        await two.counts_together()
        admin.flushall()  # the nodes fill the copy again
        await load.go_on()
        async with Redis.from_url(server.url, decode_responses=True) as reader:
            await two.agrees(reader, load)
        await two.reached(load)
    assert admin.acl_log() == []


async def test_gateway_reads_with_its_rules_and_writes_nothing(
    server: RedisServer, admin: redis.Redis
) -> None:
    set_user(admin, *RULES)
    await use_everything(access(server), "epoch")
    set_gateway = ("ACL SETUSER", "gateway", *rules("acl-gateway"))
    admin.execute_command(*set_gateway)
    async with Redis(
        port=server.port, username="gateway", password="password", decode_responses=True
    ) as gateway:
        assert await gateway.get("token_service:epoch") == "epoch"
        assert await gateway.exists("token_service:{epoch}:sid:none") == 0
        assert await gateway.mget("token_service:{epoch}:sub:name-2") != [None]
        assert not await gateway.sismember("token_service:{epoch}:jti:1", "none")
        with pytest.raises(redis.exceptions.NoPermissionError):
            await gateway.set("token_service:epoch", "forged")
