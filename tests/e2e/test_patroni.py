"""Nodes under load whose PostgreSQL fails over under Patroni: nothing acknowledged is lost, and the bound is kept."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.failover_load import ISSUER, Load, load
from tests.integration.calls import STRONG, Api
from tests.integration.nodes import Node, nodes
from tests.integration.tour import DOCS
from tests.support.deadline import eventually
from tests.support.etcd import Etcd
from tests.support.patroni import Member, PatroniCluster, configuration
from token_service.client import ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.errors import InvalidTokenError

PAGE = (DOCS / "production.md").read_text()
POLICIES = PAGE.partition("```ini\n[classifications.internal]\ngrace_period")
_TIMEOUT = 240


@dataclass
class Site:
    """Two nodes on a cluster of three members."""

    etcd: Etcd
    cluster: PatroniCluster
    nodes: list[Node]

    async def settled(self, *, synchronous: bool = True) -> Member:
        """Wait until the cluster is whole and both nodes are ready; return the leader."""
        leader = await asyncio.to_thread(self.cluster.settled, synchronous=synchronous)
        await eventually(lambda: all(readiness(node)["ready"] for node in self.nodes), timeout=_TIMEOUT)
        return leader

    async def epoch(self) -> str:
        """Return the name of the log."""
        async with Api(self.nodes[0].grpc_address) as api:
            return (await api.revoke(subject="nobody")).cursor.partition(":")[0]

    @asynccontextmanager
    async def failover(self) -> AsyncIterator[tuple[Load, Member]]:
        """Run load on a whole cluster beside a block that loses the leader, until another one leads."""
        leader = await self.settled()
        before = await self.epoch()
        try:
            async with load(self.nodes) as work:
                yield work, leader
                await work.progress()
                assert (await asyncio.to_thread(self.cluster.leader, except_for=leader)) is not leader
        except BaseException as error:
            error.add_note("\n".join(node.log_text()[-4000:] for node in self.nodes))
            error.add_note(self.cluster.log_tails())
            raise
        assert await self.epoch() != before


def readiness(node: Node) -> dict[str, Any]:
    """Return the answer of /readyz."""
    connection = http.client.HTTPConnection(node.http_address, timeout=30)
    try:
        connection.request("GET", "/readyz")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


async def unready(site: Site) -> None:
    """Wait until no node is ready."""
    await eventually(lambda: not any(readiness(node)["ready"] for node in site.nodes), timeout=_TIMEOUT)


def environment(cluster: PatroniCluster, directory: Path, **settings: str) -> dict[str, str]:
    """Return the settings of the nodes, with the policies that the page shows."""
    policies = directory / "policies.toml"
    assert POLICIES[1], "the page shows no policies"
    policies.write_text("[classifications.internal]\ngrace_period" + POLICIES[2].partition("```")[0])
    return {
        "TOKEN_SERVICE_DATABASE_URL": cluster.url,
        "TOKEN_SERVICE_POLICY_FILE": str(policies),
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_REPLICA_MAX_AGE": "2s",
        **settings,
    }


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcd]:
    with Etcd() as made:
        yield made


@pytest.fixture(scope="class")
def site(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster with the configuration of the page: synchronous and strict."""
    directory = tmp_path_factory.mktemp("nodes")
    with (
        PatroniCluster(configuration(PAGE), etcd.address) as cluster,
        nodes(2, environment(cluster, directory)) as made,
    ):
        yield Site(etcd, cluster, made)


class TestSynchronous:
    async def test_switchover_loses_nothing(self, site: Site) -> None:
        async with site.failover():
            candidate = await asyncio.to_thread(site.cluster.follower, synchronous=True)
            await asyncio.to_thread(site.cluster.switch_over, candidate)

    async def test_killed_primary_loses_nothing(self, site: Site) -> None:
        async with site.failover() as (_, leader):
            leader.kill()
            await unready(site)
            await asyncio.to_thread(site.cluster.leader, except_for=leader)
        site.cluster.start(leader)

    async def test_primary_that_was_stopped_and_returns_proves_nothing(self, site: Site) -> None:
        async with site.failover() as (work, leader):
            leader.pause()
            await unready(site)
            await asyncio.to_thread(site.cluster.leader, except_for=leader)
            await work.progress()
            site.cluster.resume(leader)  # with the connections that the nodes had
            await work.progress()

    async def test_primary_without_its_agent_that_still_accepts_writes_proves_nothing(
        self, site: Site
    ) -> None:
        async with site.failover() as (work, leader):
            leader.kill_patroni()
            await asyncio.to_thread(site.cluster.leader, except_for=leader)
            await work.progress()
            # The former primary still takes new connections, and its sessions may write.
            assert not await asyncio.to_thread(site.cluster.query, leader, "SELECT pg_is_in_recovery()")
            await work.progress()
        leader.kill()
        site.cluster.start(leader)

    async def test_loss_of_etcd_stops_writes_until_it_returns(self, site: Site) -> None:
        leader = await site.settled()
        async with load(site.nodes) as work:
            site.etcd.pause()
            try:
                await unready(site)
                await asyncio.to_thread(site.cluster.demoted, leader)
                acknowledged = len(work.revoked)
                failures = len(work.failures)
                await eventually(lambda: len(work.failures) > failures + 10)
                assert len(work.revoked) == acknowledged
            finally:
                site.etcd.resume()
            await work.progress()
        await site.settled()


ASYNCHRONOUS = {
    "synchronous_mode: true": "synchronous_mode: false",
    "synchronous_mode_strict: true": "synchronous_mode_strict: false",
}


@pytest.fixture(scope="class")
def lossy_site(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster without synchronous replication, with nodes that continue after a loss."""
    directory = tmp_path_factory.mktemp("lossy")
    text = configuration(PAGE).replace("scope: tokens", "scope: lossy")
    with (
        PatroniCluster(text, etcd.address, ASYNCHRONOUS) as cluster,
        nodes(2, environment(cluster, directory, TOKEN_SERVICE_LOSSY_FAILOVER="continue")) as made,
    ):
        yield Site(etcd, cluster, made)


class TestAsynchronous:
    async def test_lost_revocations_are_written_again_under_another_epoch(self, lossy_site: Site) -> None:
        site = lossy_site
        leader = await site.settled(synchronous=False)
        before = await site.epoch()
        async with AsyncExitStack() as stack:
            apis = [await stack.enter_async_context(Api(node.grpc_address)) for node in site.nodes]
            validators = [
                await stack.enter_async_context(
                    TokenValidator(
                        ValidatorConfig(
                            issuers=[ServiceIssuer(issuer=ISSUER, target=node.grpc_address)], audience="api"
                        )
                    )
                )
                for node in site.nodes
            ]
            for validator in validators:
                assert await validator.wait_ready(60)
            issued = [await apis[0].issue(f"user-{number}") for number in range(12)]
            good = await apis[0].issue("good")
            others = [member for member in site.cluster.members.values() if member is not leader]
            await asyncio.to_thread(site.cluster.stop_following, others)
            for number, tokens in enumerate(issued):
                target: dict[str, Any] = [
                    {"subject": f"user-{number}"},
                    {"token": tokens.access_token},
                    {"session_id": tokens.session_id},
                ][number % 3]
                await apis[number % 2].revoke(**target)
            leader.kill()
            site.cluster.resume_agents(others)
            await asyncio.to_thread(site.cluster.leader, except_for=leader)

            await eventually(lambda: all(readiness(node)["ready"] for node in site.nodes), timeout=_TIMEOUT)
            assert await site.epoch() != before
            after = (await apis[0].revoke(subject="nobody")).cursor.partition(":")[0]
            for api in apis:
                for tokens in issued:
                    assert await api.why(tokens.access_token, consistency=STRONG) == "REVOKED"
                assert (await api.validate(good.access_token, consistency=STRONG)).active
            for validator in validators:
                await eventually(
                    lambda validator=validator: (  # type: ignore[misc]
                        validator.is_fresh and validator.status().cursor.startswith(after)
                    )
                )
                for tokens in issued:
                    with pytest.raises(InvalidTokenError):
                        await validator.validate(tokens.access_token)
                assert (await validator.validate(good.access_token)).subject == "good"
        assert any("revocations again that a failover had lost" in node.log_text() for node in site.nodes)
