"""Two nodes with one Redis under load: each call succeeds, and every revocation reaches the subscribers of both nodes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from redis.asyncio import Redis, RedisCluster

from tests.integration.calls import STRONG, Api, Follower, sequence
from tests.integration.nodes import Node, key_encryption_key, nodes
from tests.support.deadline import eventually
from tests.support.redis_reader import redis_refuses

LIMIT = 8
_AWAY = "the revocation mirror is away"
_BACK = "the revocation mirror is back"


@dataclass
class Load:
    """Calls in a loop, and their results."""

    failures: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    """Access tokens, in the order in which their revocations were acknowledged."""
    last: str = ""
    """The cursor of the newest acknowledged revocation."""

    async def go_on(self, count: int = 12) -> None:
        """Wait for so many more revocations."""
        target = len(self.revoked) + count
        await eventually(lambda: self.failures or len(self.revoked) >= target)
        assert not self.failures


class World:
    """Two nodes, and a subscriber at each."""

    def __init__(self, made: list[Node], apis: list[Api], followers: list[Follower]) -> None:
        self.nodes = made
        self.apis = apis
        self._followers = followers
        self._start = sequence(followers[0].cursor)
        self._names = itertools.count()

    @asynccontextmanager
    async def load(self) -> AsyncIterator[Load]:
        """Issue, validate and revoke at both nodes, and validate at the other one, until the end of the context."""
        load = Load()
        a, b = self.apis
        tasks = [asyncio.create_task(self._call(load, one, other)) for one, other in ((a, b), (b, a))]
        try:
            yield load
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert load.failures == []

    async def _call(self, load: Load, one: Api, other: Api) -> None:
        for target in itertools.cycle(("token", "session_id", "subject", "token_id")):
            subject = f"user-{next(self._names)}"
            try:
                issued = await one.issue(subject)
                assert await other.why(issued.access_token, consistency=STRONG) == ""
                value: Any = {
                    "token": issued.access_token,
                    "session_id": issued.session_id,
                    "subject": subject,
                    "token_id": issued.token_id,
                }[target]
                # Between the call and the note nothing waits, so a cancellation loses no acknowledged revocation.
                answer = await one.revoke(**{target: value})
                load.revoked.append(issued.access_token)
                if sequence(answer.cursor) > sequence(load.last):
                    load.last = answer.cursor
                assert await other.why(issued.access_token, consistency=STRONG) == "REVOKED"
            except (grpc.aio.AioRpcError, AssertionError) as error:
                load.failures.append(f"{target} of {subject}: {error!r}")
                return

    async def reached(self, load: Load) -> None:
        """Check that each entry up to the newest acknowledged one reaches each subscriber once and in order."""
        last = load.last
        for follower in self._followers:
            await follower.caught_up_to(last)
            assert follower.resets == 0
            got = [each for each in follower.sequences if each <= sequence(last)]
            assert got == list(range(self._start + 1, sequence(last) + 1))

    async def agrees(self, redis: Redis | RedisCluster, load: Load) -> None:
        """Check that the copy in Redis refuses exactly the revoked tokens, up to the head of the log."""
        head = await self.apis[0].confirm("", "")
        good = [(await api.issue(self._new_subject())).access_token for api in self.apis]

        async def is_complete() -> bool:
            epoch = head.partition(":")[0]
            assert await redis.get("token_service:epoch") == epoch
            at = await redis.get(f"token_service:{{{epoch}}}:head")
            assert at is not None
            return int(at) >= sequence(head)

        await eventually(is_complete)
        assert [token for token in load.revoked if not await redis_refuses(redis, token)] == []
        assert not any([await redis_refuses(redis, token) for token in good])

    async def counts_alone(self) -> None:
        """Check that one node keeps a rate, with and without Redis."""
        assert await self._admitted(self.apis[0], self._new_subject(), 2 * LIMIT) == LIMIT

    async def counts_together(self) -> None:
        """Wait until the nodes keep a rate together."""

        async def together() -> bool:
            subject = self._new_subject()
            counts = [await self._admitted(api, subject, 5) for api in self.apis]
            return counts == [5, LIMIT - 5]

        await eventually(together)

    async def is_away(self) -> None:
        """Wait until each node has noticed that Redis is away once more than it was back."""
        await eventually(
            lambda: all(
                log.count(_AWAY) > log.count(_BACK) for log in (node.log_text() for node in self.nodes)
            )
        )

    async def is_used(self) -> None:
        """Wait until each node uses Redis."""
        await eventually(
            lambda: all(
                log.count(_AWAY) == log.count(_BACK) for log in (node.log_text() for node in self.nodes)
            )
        )

    def logs(self) -> str:
        """Return the logs of the nodes."""
        return "\n".join(node.log_text() for node in self.nodes)

    def _new_subject(self) -> str:
        return f"other-{next(self._names)}"

    async def _admitted(self, api: Api, subject: str, calls: int) -> int:
        count = 0
        for _ in range(calls):
            try:
                await api.issue(subject)
                count += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
        return count


@asynccontextmanager
async def world(
    database_url: str, redis: Mapping[str, str], other: Mapping[str, str] | None = None
) -> AsyncIterator[World]:
    """Yield two nodes with these settings of Redis. `other`: those of the second node, if it has its own."""
    env = {
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        "TOKEN_SERVICE_POLICY__INTERNAL__RATES": f"issue_per_subject={LIMIT}/1h",
        "TOKEN_SERVICE_LOG_LEVEL": "info",
    }
    async with AsyncExitStack() as stack:
        made: list[Node] = []
        for count, settings in ((2, redis),) if other is None else ((1, redis), (1, other)):
            group: Any = nodes(count, {**env, **settings})
            made += await asyncio.to_thread(group.__enter__)
            stack.push_async_callback(asyncio.to_thread, group.__exit__, None, None, None)
        apis = [await stack.enter_async_context(Api(node.grpc_address)) for node in made]
        cursor = await apis[0].confirm("", "")
        followers = [await stack.enter_async_context(Follower(api, cursor)) for api in apis]
        yield World(made, apis, followers)
