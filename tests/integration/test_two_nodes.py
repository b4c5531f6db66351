"""Two nodes on one database, with Redis in every condition and without: each refuses what the other revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.calls import REFRESH, SESSION, STRONG, Api, Follower, refused, sequence
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.postgres import PostgresDatabases
from tests.support.redis import RedisServer
from tests.support.redis_reader import redis_refuses
from token_service.client import Freshness, ServiceIssuer, TokenValidator, ValidatorConfig


@dataclass
class Pair:
    a: Node
    b: Node
    redis: RedisServer | None


@pytest.fixture(scope="module", params=["redis", "no-redis"])
def pair(request: pytest.FixtureRequest, postgres_server: PostgresDatabases) -> Iterator[Pair]:
    env = {"TOKEN_SERVICE_DATABASE_URL": postgres_server.create_database()}
    if request.param == "no-redis":
        with nodes(2, env) as (a, b):
            yield Pair(a, b, None)
        return
    with RedisServer() as redis, nodes(2, {**env, "TOKEN_SERVICE_REDIS_URL": redis.url}) as (a, b):
        yield Pair(a, b, redis)


@pytest.fixture
async def apis(pair: Pair) -> AsyncIterator[tuple[Api, Api]]:
    async with Api(pair.a.grpc_address) as a, Api(pair.b.grpc_address) as b:
        yield a, b


async def head(api: Api) -> str:
    return await api.confirm("", "")


async def assert_revocations_cross(a: Api, b: Api, subject: str) -> None:
    """Check both directions: STRONG knows a revocation on the first call, LOCAL soon."""
    for one, other in [(a, b), (b, a)] * 5:
        issued = await one.issue(subject)
        assert await other.why(issued.access_token) == ""
        await one.revoke(token=issued.access_token)
        assert await other.why(issued.access_token, consistency=STRONG) == "REVOKED"
    together = [await a.issue(subject) for _ in range(5)]
    await a.revoke(token_id=together[0].token_id)
    await a.revoke(session_id=together[1].session_id)
    await a.revoke(token=together[2].refresh_token)
    await a.revoke(subject=subject)

    async def all_refused() -> bool:
        return {await b.why(each.access_token) for each in together} == {"REVOKED"}

    await eventually(all_refused)
    for each in together:
        assert (await refused(b.refresh(each.refresh_token))).reason == "SESSION_REVOKED"
    again = await b.issue(subject)
    assert await a.why(again.access_token, consistency=STRONG) == ""


async def assert_stream_resumes_elsewhere(a: Api, b: Api) -> None:
    """Check that a stream cut on one node resumes on the other from the same cursor, without reset or gap."""
    subject = "resuming"
    async with Follower(a, await head(a)) as on_a:
        first = await a.revoke(subject=subject)
        await on_a.caught_up_to(first.cursor)
    assert on_a.resets == 0
    seen = sequence(on_a.cursor)
    last = [await one.revoke(subject=subject) for one in (a, b, b, a)][-1]
    async with Follower(b, on_a.cursor) as on_b:
        await on_b.caught_up_to(last.cursor)
        live = await a.revoke(subject=subject)
        await on_b.caught_up_to(live.cursor)
    assert on_b.resets == 0
    assert on_b.sequences == list(range(seen + 1, sequence(live.cursor) + 1))


async def assert_redis_is_complete_again(server: RedisServer, a: Api) -> None:
    """Check that Redis has the revocations from before it was emptied, and new ones."""
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        for target in ("token", "token_id", "session_id", "subject"):
            issued = await a.issue(f"in-redis-{target}")
            values: dict[str, Any] = {
                "token": issued.access_token,
                "token_id": issued.token_id,
                "session_id": issued.session_id,
                "subject": f"in-redis-{target}",
            }
            await eventually(partial(_is_good, redis, issued.access_token))
            await a.revoke(**{target: values[target]})
            if target == "token":
                await asyncio.to_thread(server.flushall)
            await eventually(partial(redis_refuses, redis, issued.access_token))


async def _is_good(redis: Redis, token: str) -> bool:
    return not await redis_refuses(redis, token)


async def assert_all_is_well(apis: tuple[Api, Api], subject: str) -> None:
    await assert_revocations_cross(*apis, subject)
    await assert_stream_resumes_elsewhere(*apis)


async def test_each_node_refuses_what_the_other_revoked(apis: tuple[Api, Api]) -> None:
    await assert_all_is_well(apis, "well")


@pytest.mark.parametrize("condition", ["emptied", "silent", "killed"])
async def test_any_condition_of_redis_changes_no_answer(
    pair: Pair, apis: tuple[Api, Api], condition: str
) -> None:
    if pair.redis is None:
        # The same must hold without Redis: one more round in place of each condition.
        await assert_all_is_well(apis, f"none-{condition}")
        return
    a, b = apis
    async with Follower(b, await head(b)) as follower:
        start = sequence(follower.cursor)
        before = await a.issue("before")
        await a.revoke(token=before.access_token)
        try:
            match condition:
                case "emptied":
                    await asyncio.to_thread(pair.redis.flushall)
                case "silent":
                    pair.redis.pause()
                case "killed":
                    pair.redis.kill()
            await assert_all_is_well(apis, condition)
        finally:
            if condition == "silent":
                pair.redis.resume()
            if condition == "killed":
                await asyncio.to_thread(pair.redis.start)
        await assert_all_is_well(apis, f"after-{condition}")
        assert await b.why(before.access_token, consistency=STRONG) == "REVOKED"
        last = await a.revoke(subject="last")
        await follower.caught_up_to(last.cursor)
        await assert_redis_is_complete_again(pair.redis, a)
    assert follower.resets == 0
    assert follower.sequences[: sequence(last.cursor) - start] == list(
        range(start + 1, sequence(last.cursor) + 1)
    )


async def test_followers_see_every_entry_while_redis_restarts(pair: Pair, apis: tuple[Api, Api]) -> None:
    """A follower on each node sees every entry once and in order, for any order of Redis's hints."""
    a, b = apis
    cursor = await head(a)
    start = sequence(cursor)

    async def revoke_many(api: Api, name: str) -> None:
        for number in range(150):
            await api.revoke(token_id=f"{name}-{number}")

    async def disturb() -> None:
        if pair.redis is None:
            return
        for _ in range(3):
            await asyncio.to_thread(pair.redis.flushall)
            await asyncio.to_thread(pair.redis.restart)

    async with Follower(a, cursor) as on_a, Follower(b, cursor) as on_b:
        async with asyncio.TaskGroup() as tasks:
            for number in range(4):
                tasks.create_task(revoke_many(a if number % 2 else b, f"many-{number}"))
            tasks.create_task(disturb())
        last = await a.revoke(subject="done")
        for follower in (on_a, on_b):
            await follower.caught_up_to(last.cursor)
            assert follower.resets == 0
            assert follower.sequences == list(range(start + 1, sequence(last.cursor) + 1))
            assert [entry.token_id or entry.subject for entry in follower.entries] == [
                entry.token_id or entry.subject for entry in on_a.entries
            ]


async def test_sessions_and_keys_work_at_every_node(apis: tuple[Api, Api]) -> None:
    a, b = apis
    issued = await a.issue("roaming", token_types=[REFRESH, SESSION])
    assert await b.why(issued.session_token) == ""
    assert await b.why(issued.refresh_token) == ""
    refreshed = await b.refresh(issued.refresh_token)
    repeated = await a.refresh(issued.refresh_token)
    assert repeated.refresh_token == refreshed.refresh_token
    assert await a.why(refreshed.access_token) == ""
    assert await a.why(issued.refresh_token) == "SUPERSEDED"
    await b.revoke(token=issued.session_token)
    assert await a.why(issued.session_token) == "REVOKED"
    assert (await refused(a.refresh(refreshed.refresh_token))).reason == "SESSION_REVOKED"
    retried = {(await api.issue("once", request_id="retried-elsewhere")).session_id for api in (a, b, a)}
    assert len(retried) == 1


async def test_a_waiting_call_counts_the_validators_of_all_nodes(apis: tuple[Api, Api]) -> None:
    a, b = apis
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Follower(a, "", "wait-a", confirm=a))
        await stack.enter_async_context(Follower(b, "", "wait-b", confirm=b))
        # A validator that follows one node and confirms at the other.
        await stack.enter_async_context(Follower(b, "", "wait-crossed", confirm=a))

        async def all_confirmed() -> bool:
            answer = await a.revoke(subject="waited-for", wait=10)
            return (answer.subscribers_connected, answer.subscribers_applied) == (3, 3)

        await eventually(all_confirmed)
        deaf = await stack.enter_async_context(Follower(b, "", "wait-deaf"))

        async def one_is_missing() -> bool:
            answer = await a.revoke(subject="waited-for", wait=1)
            assert answer.subscribers_applied == 3
            return answer.subscribers_connected == 4

        await eventually(one_is_missing)
        # The silent validator received the entry that the call waits for.
        await deaf.caught_up_to(await head(b))
        await deaf.cut()

        async def gone() -> bool:
            answer = await b.revoke(subject="waited-for", wait=10)
            return (answer.subscribers_connected, answer.subscribers_applied) == (3, 3)

        await eventually(gone)
    answer = await a.revoke(subject="not-waited-for")
    assert (answer.subscribers_connected, answer.subscribers_applied) == (0, 0)


async def test_validators_of_another_node_are_asked_to_confirm(pair: Pair, apis: tuple[Api, Api]) -> None:
    """This validator proves its freshness only every 20 seconds, and so would confirm too late unasked."""
    issuer = ServiceIssuer(
        issuer="http://127.0.0.1:8080",
        target=pair.b.grpc_address,
        subscriber_id="seldom",
        freshness=Freshness(bound=60),
    )
    a, _ = apis
    async with TokenValidator(ValidatorConfig(issuers=[issuer], audience="api")) as validator:
        assert await validator.wait_ready(60)

        async def is_known() -> bool:
            return (await a.revoke(subject="unknown", wait=0.3)).subscribers_connected == 1

        await eventually(is_known)
        for _ in range(3):
            answer = await a.revoke(subject="unknown", wait=15)  # less than the time between two proofs
            assert (answer.subscribers_connected, answer.subscribers_applied) == (1, 1)


async def test_two_hundred_concurrent_waiting_calls_are_answered(pair: Pair, apis: tuple[Api, Api]) -> None:
    async with AsyncExitStack() as stack:
        # Waiting calls use up the streams of a connection, so followers have their own connections.
        a, b = [await stack.enter_async_context(Api(node.grpc_address)) for node in (pair.a, pair.b)]
        for number, (stream, confirm) in enumerate([(a, a), (b, b), (b, a), (a, b)]):
            await stack.enter_async_context(Follower(stream, "", f"many-{number}", confirm=confirm))

        async def all_are_known() -> bool:
            answers = [await api.revoke(subject="known", wait=10) for api in apis]
            return {(each.subscribers_connected, each.subscribers_applied) for each in answers} == {(4, 4)}

        await eventually(all_are_known)
        answers = await asyncio.gather(
            *(apis[number % 2].revoke(subject=f"waited-for-{number}", wait=30) for number in range(200))
        )
        assert {(each.subscribers_connected, each.subscribers_applied) for each in answers} == {(4, 4)}
