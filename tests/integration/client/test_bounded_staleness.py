"""A token whose revocation was acknowledged at t is never accepted as fresh after t + S, whatever happens in between.

t is read after the answer to RevokeToken arrived, the time of a validation before it begins, both from one clock that
the processes share. So the validators have S and not a millisecond more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import asyncpg
import pytest

from tests.faults.proxy import Proxy
from tests.faults.staleness import Trial
from tests.faults.validators import Plan
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.postgres import PostgresDatabases, driver_url
from tests.support.redis import RedisServer

S = 2.0
VALIDATORS = int(os.environ.get("TOKEN_SERVICE_TEST_STALENESS_VALIDATORS", "25"))
"""Validators of the trial, a multiple of 5. `scripts/faults staleness` uses 50: they validate continuously and
take a whole processor.
"""
_HELD = 10
"""Tokens that every validator has accepted when a fault begins, and that are revoked during the fault."""
_ISSUER = "https://tokens.test"


@dataclass
class Site:
    nodes: list[Node]
    redis: RedisServer
    database: str


@pytest.fixture(scope="module")
def site(postgres_server: PostgresDatabases) -> Iterator[Site]:
    url = postgres_server.create_database()
    with RedisServer() as redis:
        env = {
            "TOKEN_SERVICE_DATABASE_URL": url,
            "TOKEN_SERVICE_REDIS_URL": redis.url,
            "TOKEN_SERVICE_ISSUER": _ISSUER,
            "TOKEN_SERVICE_JANITOR_INTERVAL": "1s",
        }
        with nodes(2, env) as pair:
            yield Site(pair, redis, url)
    postgres_server.drop_database(url)


def plans(targets: list[str], counts: list[tuple[str, int, bool]], bound: float) -> list[Plan]:
    return [Plan(_ISSUER, targets, count, kind, bound, remote) for kind, count, remote in counts]


def either_first(proxies: list[Proxy]) -> list[str]:
    a, b = (proxy.address for proxy in proxies)
    return [f"ipv4:{a},{b}", f"ipv4:{b},{a}"]


class Faults:
    """The faults. Each is a context: the fault begins, tokens are revoked, the fault ends."""

    def __init__(self, site: Site, proxies: list[Proxy], trial: Trial) -> None:
        self.site, self.proxies, self.trial = site, proxies, trial

    @asynccontextmanager
    async def node_killed(self) -> AsyncIterator[None]:
        node = self.site.nodes[0]
        node.kill()
        yield
        # The other node is enough.
        await self.trial.all_fresh()
        await asyncio.to_thread(node.start)

    @asynccontextmanager
    async def node_stopped(self) -> AsyncIterator[None]:
        self.site.nodes[1].pause()
        yield
        self.site.nodes[1].resume()

    @asynccontextmanager
    async def network_cut(self) -> AsyncIterator[None]:
        for proxy in self.proxies:
            proxy.cut()
        yield
        for proxy in self.proxies:
            proxy.heal()

    @asynccontextmanager
    async def network_held(self) -> AsyncIterator[None]:
        for proxy in self.proxies:
            proxy.hold()
        yield
        for proxy in self.proxies:
            proxy.heal()

    @asynccontextmanager
    async def redis_emptied(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.site.redis.flushall)
        yield
        self.site.redis.pause()
        await asyncio.sleep(S)
        self.site.redis.resume()

    @asynccontextmanager
    async def validators_stopped(self) -> AsyncIterator[None]:
        """On resumption, the validators find messages in their buffers, including answers to probes."""
        stopped = self.trial.watchers[::2]
        for watchers in stopped:
            watchers.signal(signal.SIGSTOP)
        yield
        for watchers in stopped:
            watchers.signal(signal.SIGCONT)

    @asynccontextmanager
    async def cursors_compacted(self) -> AsyncIterator[None]:
        """All validators are cut off; when they return, the log after their cursors is purged."""
        trial, site = self.trial, self.site
        await trial.pause()
        resets = await self._resets()
        async with self.network_cut():
            for watchers in trial.watchers:
                watchers.tell("forget")
            for number, issued in await trial.issue(3):
                await trial.revoke(number, issued)
            for watchers in trial.watchers:
                watchers.tell("forget")
            connection = await asyncpg.connect(driver_url(site.database))
            try:
                await connection.execute("UPDATE revocations SET expire_time = 1")
                # The janitor purges in batches.
                await eventually(
                    lambda: connection.fetchval("SELECT compacted_sequence = sequence FROM log_head")
                )
            finally:
                await connection.close()
            # A node still has the entries in memory and could resume from there.
            for node in site.nodes:
                await asyncio.to_thread(node.restart)
            yield
        await trial.all_fresh()
        assert all(now > before for now, before in zip(await self._resets(), resets, strict=True))
        await trial.run()

    async def _resets(self) -> list[int]:
        return [count for watchers in self.trial.watchers for count in (await watchers.report())["resets"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_token_is_accepted_later_than_s_after_its_revocation(site: Site) -> None:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(node.grpc_address)) for node in site.nodes]
        fifth = VALIDATORS // 5
        kinds = [("async", 2 * fifth, False), ("async", 2 * fifth, True), ("sync", fifth, False)]
        trial = await stack.enter_async_context(
            Trial(
                [node.grpc_address for node in site.nodes],
                plans(either_first(proxies), kinds, S),
                bound=S,
            )
        )
        faults = Faults(site, proxies, trial)
        await trial.all_fresh()
        await trial.run()
        for fault, makes_stale in (
            (faults.node_killed, False),
            (faults.node_stopped, True),
            (faults.network_cut, True),
            (faults.network_held, True),
            (faults.redis_emptied, False),
            (faults.validators_stopped, False),
            (faults.cursors_compacted, True),
        ):
            held = await trial.issue(_HELD)
            await trial.all_accept([number for number, _ in held])
            stale = await trial.stale()
            async with fault():
                if fault == faults.cursors_compacted:
                    held = await trial.issue(_HELD)
                for number, issued in held:
                    await trial.revoke(number, issued)
                await asyncio.sleep(1.5 * S)
                if makes_stale:
                    await eventually(partial(trial.found_stale, stale))
            await trial.all_fresh()
            await asyncio.sleep(S / 2)
            assert not await trial.violations(), fault.__name__
            # Fresh validators accept a good token and refuse revoked ones.
            (good,) = await trial.issue(1)
            await trial.all_accept([good[0]])
        await trial.pause()
        assert len(trial.acknowledged) > 100
        for watchers in trial.watchers:
            assert set((await watchers.report())["reasons"]) == {"REVOKED"}
        assert not await trial.violations()


async def test_a_validator_that_trusts_a_proof_for_longer_is_detected(site: Site) -> None:
    """Run the same trial with validators whose S is twenty times the claimed one: the check above can fail."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(node.grpc_address)) for node in site.nodes]
        trial = await stack.enter_async_context(
            Trial(
                [node.grpc_address for node in site.nodes],
                plans(either_first(proxies), [("async", 2, False)], 20.0),
                bound=1.0,
            )
        )
        await trial.all_fresh()
        held = await trial.issue(3)
        await trial.all_accept([number for number, _ in held])
        async with Faults(site, proxies, trial).network_cut():
            for number, issued in held:
                await trial.revoke(number, issued)
            await eventually(trial.violations)
