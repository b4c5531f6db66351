"""A database restored from a backup under running nodes, and `token-service log renew`: no earlier token is valid,
every later one is.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import jwt
import pytest
from redis.asyncio import Redis

from tests.integration.calls import ACCESS, STRONG, Api, Follower, refused, sequence
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.postgres import PostgresServer, driver_url
from token_service.client import ServiceIssuer, TokenValidator, ValidatorConfig, WarmStart
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.secret import Secret

ISSUER = "https://tokens.test"
TABLES = ["sessions", "revocations", "revocation_floors", "log_head", "signing_keys", "mac_keys"]
WENT_BACK = "run `token-service log renew`"


@dataclass
class Site:
    nodes: list[Node]
    database: str
    redis: str
    operator: Operator

    async def execute(self, *statements: str) -> None:
        """Execute statements in one transaction."""
        if self.database.startswith("sqlite"):
            await asyncio.to_thread(self._on_sqlite, statements)
            return
        connection = await asyncpg.connect(driver_url(self.database))
        try:
            async with connection.transaction():
                for statement in statements:
                    await connection.execute(statement)
        finally:
            await connection.close()

    def _on_sqlite(self, statements: tuple[str, ...]) -> None:
        connection = sqlite3.connect(
            self.database.removeprefix("sqlite:///"), timeout=60, isolation_level=None
        )
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            connection.close()

    async def back_up(self) -> None:
        await self.execute(
            *(f"DROP TABLE IF EXISTS backup_{table}" for table in TABLES),
            *(f"CREATE TABLE backup_{table} AS SELECT * FROM {table}" for table in TABLES),
        )

    async def restore(self) -> None:
        await self.execute(
            *(f"DELETE FROM {table}" for table in TABLES),
            *(f"INSERT INTO {table} SELECT * FROM backup_{table}" for table in TABLES),
        )


@pytest.fixture(scope="module")
def site(database_url: str, redis_server: str) -> Iterator[Site]:
    env = {
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        "TOKEN_SERVICE_REDIS_URL": redis_server,
        "TOKEN_SERVICE_ISSUER": ISSUER,
    }
    with nodes(2, env) as pair:
        operator = Operator({"TOKEN_SERVICE_DATABASE_URL": database_url}, group="log")
        yield Site(pair, database_url, redis_server, operator)


@pytest.fixture
async def apis(site: Site) -> AsyncIterator[list[Api]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Api(node.grpc_address)) for node in site.nodes]


def validator(node: Node, path: Path) -> TokenValidator:
    warm_start = WarmStart(path=path, mac_key=Secret(b"32 bytes of a secret for a test.."))
    issuer = ServiceIssuer(issuer=ISSUER, target=node.grpc_address, warm_start=warm_start)
    return TokenValidator(ValidatorConfig(issuers=[issuer], audience="api"))


async def why(validator: TokenValidator, token: str) -> InvalidReason | None:
    try:
        await validator.validate(token)
    except InvalidTokenError as error:
        return error.reason
    return None


def unverified(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


async def head(api: Api) -> str:
    return await api.confirm("", "")


async def test_renewal_after_a_restore_ends_earlier_tokens_and_accepts_later_ones(
    site: Site, apis: list[Api], tmp_path: Path
) -> None:
    a, b = apis
    before = await a.issue("before")
    await a.revoke(subject="somebody")
    await site.back_up()
    place = sequence(await head(a))
    forgotten = await b.issue("forgotten")
    await b.revoke(token=forgotten.access_token)
    for number in range(5):
        await a.revoke(token_id=f"after-the-backup-{number}")
    assert not await b.why(before.access_token, consistency=STRONG)  # this node has now seen all entries
    session = await b.issue("ahead")
    ahead = [(await b.issue("ahead", token_types=[ACCESS])).access_token, session.access_token]
    assert [unverified(token)["rev"] for token in ahead] == [place + 6] * 2
    lost = await head(a)
    assert sequence(lost) == place + 6

    async with AsyncExitStack() as stack:
        following = await stack.enter_async_context(validator(site.nodes[0], tmp_path / "following"))
        assert await following.wait_ready(60)
        for token in ahead:
            assert await why(following, token) is None
        async with validator(site.nodes[1], tmp_path / "warm") as saved:
            assert await saved.wait_ready(60)
        assert (tmp_path / "warm").exists()
        stream = await stack.enter_async_context(Follower(b, lost))
        await stream.caught_up_to(lost)

        await site.restore()
        # Each node notices that the log went back and logs it; no node continues from its own place.
        await eventually(lambda: all(WENT_BACK in node.log_text() for node in site.nodes))
        assert await head(a) == f"{lost.partition(':')[0]}:{place}"
        assert not await a.why(forgotten.access_token, consistency=STRONG)  # the renewal must end this

        epoch = lost.partition(":")[0]
        assert (await site.operator.run("show")) == f"{epoch}:{place}"
        output = await site.operator.run("renew", "--yes", "--epoch", epoch)
        shown = json.loads(await site.operator.run("show", "--format", "json"))
        renewed = f"{shown['epoch']}:{shown['sequence']}"
        assert output.startswith(f"The revocation log {epoch}:{place} continues as {renewed}.")
        assert "keys revoke" in output
        assert "nothing was changed" in await site.operator.refused("renew", "--yes", "--epoch", epoch)

        # Strong answers know the renewal immediately, all others soon.
        for api in apis:
            for token in (before.access_token, forgotten.access_token, *ahead):
                assert await api.why(token, consistency=STRONG) == "REVOKED"
            assert (await refused(api.refresh(before.refresh_token))).reason == "SESSION_REVOKED"
            assert (await refused(api.refresh(session.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
            assert await head(api) == renewed
        for token in ahead:
            await eventually(partial(refuses, following, token))
        await eventually(lambda: stream.resets and stream.cursor == renewed)
        await eventually(lambda: following.is_fresh)

        # New tokens of all kinds are valid everywhere.
        newest = []
        for api in apis:
            fresh = await api.issue("fresh")
            for other in apis:
                assert not await other.why(fresh.access_token, consistency=STRONG)
            assert await why(following, fresh.access_token) is None
            refreshed = await api.refresh(fresh.refresh_token)
            assert await why(following, refreshed.access_token) is None
            newest.append(refreshed.access_token)
            only_access = await api.issue("fresh", token_types=[ACCESS])
            assert await why(following, only_access.access_token) is None

        # Revocation continues, also over Redis and for validators that start with a copy of the previous log.
        last = await a.issue("last")
        revoked = await b.revoke(token=last.access_token)
        assert sequence(revoked.cursor) == sequence(renewed) + 1
        await eventually(lambda: refuses(following, last.access_token))
        await stream.caught_up_to(revoked.cursor)
        warm = await stack.enter_async_context(validator(site.nodes[1], tmp_path / "warm"))
        assert await warm.wait_ready(60)
        for token in (*ahead, last.access_token):
            assert await why(warm, token) is InvalidReason.REVOKED
        for token in newest:
            assert await why(warm, token) is None
        # A cursor of the previous log gets a snapshot.
        async with Follower(a, lost) as late:
            await late.caught_up_to(revoked.cursor)
            assert late.resets == 1
    async with Redis.from_url(site.redis, decode_responses=True) as redis:

        async def renewed_there() -> bool:
            state = await redis.get(f"token_service:{{{shown['epoch']}}}:head")
            return state is not None and int(state) >= sequence(revoked.cursor)

        await eventually(renewed_there)
        assert await redis.get("token_service:epoch") == shown["epoch"]
        assert await redis.get(f"token_service:{{{epoch}}}:head") is None
        everything = await redis.get(f"token_service:{{{shown['epoch']}}}:everything")
        assert isinstance(everything, str)
        assert everything.startswith(f"{sequence(renewed)}:")


async def refuses(validator: TokenValidator, token: str) -> bool:
    return await why(validator, token) is InvalidReason.REVOKED


async def test_a_renewal_asks_for_confirmation(site: Site, apis: list[Api]) -> None:
    issued = await apis[0].issue()
    before = await site.operator.run("show")
    answered = await site.operator.says("renew", stdin="n\n")
    assert answered.code == 1
    assert "ends every session" in answered.out
    assert (await site.operator.says("renew")).code == 1  # no terminal to ask
    assert await site.operator.run("show") == before
    assert not await apis[0].why(issued.access_token, consistency=STRONG)
    assert "continues as" in await site.operator.run("renew", stdin="y\n")
    assert await apis[1].why(issued.access_token, consistency=STRONG) == "REVOKED"


async def test_a_node_paused_during_a_restore_notices_it_in_a_longer_log(site: Site, apis: list[Api]) -> None:
    awake, asleep = apis
    await site.back_up()
    for number in range(3):
        await awake.revoke(token_id=f"forgotten-{number}")
    known = await head(asleep)
    issued = await awake.issue()
    assert not await asleep.why(issued.access_token, consistency=STRONG)
    reported = site.nodes[1].log_text().count(WENT_BACK)
    site.nodes[1].pause()
    try:
        await site.restore()
        again = await awake.issue()
        await awake.revoke(token_id=again.token_id)
        last = [await awake.revoke(token_id=f"new-{number}") for number in range(5)][-1]
    finally:
        site.nodes[1].resume()
    assert sequence(last.cursor) > sequence(known)
    await eventually(lambda: site.nodes[1].log_text().count(WENT_BACK) > reported)
    await asleep.validate(again.access_token, consistency=STRONG)
    assert await asleep.why(again.access_token) == "REVOKED"
    async with Follower(asleep) as follower:
        await follower.caught_up_to(last.cursor)
        assert len(follower.fingerprints) >= 6


async def test_a_postgresql_restored_from_files_is_noticed_and_renewed(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """As after a restore of its files, or a promotion of a standby that lacks the last commits."""
    url = private_postgres.create_database()
    operator = Operator({"TOKEN_SERVICE_DATABASE_URL": url}, group="log")
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": url, "TOKEN_SERVICE_ISSUER": ISSUER}) as pair:
        async with AsyncExitStack() as stack:
            a, b = [await stack.enter_async_context(Api(node.grpc_address)) for node in pair]
            await a.revoke(subject="somebody")
            await asyncio.to_thread(private_postgres.back_up)
            await eventually(lambda: answers(a))
            forgotten = await a.issue()
            await b.revoke(token=forgotten.access_token)
            await a.revoke(subject="somebody else")
            ahead = await b.issue()
            assert unverified(ahead.access_token)["rev"] == 3
            following = await stack.enter_async_context(validator(pair[1], tmp_path / "following"))
            assert await following.wait_ready(60)
            assert await why(following, ahead.access_token) is None
            await asyncio.to_thread(private_postgres.put_back)
            await eventually(lambda: all(WENT_BACK in node.log_text() for node in pair))
            assert "continues as" in await operator.run("renew", "--yes")
            for api in (a, b):
                for token in (forgotten.access_token, ahead.access_token):
                    assert await api.why(token, consistency=STRONG) == "REVOKED"
            await eventually(lambda: refuses(following, ahead.access_token))
            await eventually(lambda: following.is_fresh)
            fresh = await b.issue()
            assert not await a.why(fresh.access_token, consistency=STRONG)
            assert await why(following, fresh.access_token) is None


async def answers(api: Api) -> bool:
    try:
        await head(api)
    except grpc.aio.AioRpcError:
        return False
    return True
