"""Two nodes on one database with real validators: an operator sees all of them at either node, and from the shell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner

from tests.integration.calls import TIMEOUT, Api, Follower
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.postgres import PostgresDatabases
from token_service import __version__
from token_service.cli import cli
from token_service.client import InvalidTokenError, ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.stores.sql import migrations
from token_service.v1 import admin_service_pb2 as pb
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub

ISSUER = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresDatabases) -> Iterator[tuple[Node, Node]]:
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": postgres_server.create_database()}) as (a, b):
        yield a, b


def validator(node: Node, name: str) -> TokenValidator:
    issuer = ServiceIssuer(issuer=ISSUER, target=node.grpc_address, subscriber_id=name)
    return TokenValidator(ValidatorConfig(issuers=[issuer], audience="api"))


def shell(node: Node, *arguments: str) -> Any:
    result = CliRunner().invoke(cli, [*arguments, "--target", node.grpc_address, "-o", "json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_operator_sees_nodes_validators_and_problems_at_any_node(pair: tuple[Node, Node]) -> None:
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(Api(node.grpc_address)) for node in pair]
        first, second = (AdminServiceStub(api.channel) for api in (one, two))
        clients = [
            await stack.enter_async_context(validator(node, f"web-{number}"))
            for number, node in enumerate((*pair, pair[1]))
        ]
        for each in clients:
            assert await each.wait_ready(60)
        client = clients[-1]
        token = (await one.issue("alice")).access_token
        await client.validate(token)

        async def connected() -> bool:
            overview = await first.GetOverview(pb.GetOverviewRequest(), timeout=TIMEOUT)
            assert (overview.subscribers_connected, len(overview.nodes)) == (3, 2)
            return True

        await eventually(connected)
        cursor = (await one.revoke(subject="alice", wait=30)).cursor
        with pytest.raises(InvalidTokenError):
            await client.validate(token)

        async def current() -> bool:
            overview = await second.GetOverview(pb.GetOverviewRequest(), timeout=TIMEOUT)
            assert overview.subscribers_behind == 0
            assert overview.propagation.count == 1
            return True

        await eventually(current)

        async def settled() -> set[str]:
            """Check what the nodes report about themselves, and return their ids."""
            overview = await first.GetOverview(pb.GetOverviewRequest(), timeout=TIMEOUT)
            assert (overview.version, overview.schema_revision) == (__version__, migrations.HEAD)
            assert (overview.head_cursor, overview.subscribers_silent) == (cursor, 0)
            assert overview.propagation.longest.ToTimedelta().total_seconds() < 60
            assert {node.ready for node in overview.nodes} == {True}
            assert sorted(node.subscribers for node in overview.nodes) == [1, 2]
            assert {node.applied_cursor for node in overview.nodes} == {cursor}
            assert all(node.database_connections_max > 0 and node.redis == "none" for node in overview.nodes)
            jobs = {job.name: job.node_id for job in overview.jobs}
            running = {node.node_id for node in overview.nodes}
            assert {jobs.get(name) for name in ("janitor", "key-rotation", "audit-checkpoint")} <= running
            assert [problem.name for problem in overview.problems] == []
            return running

        running = await eventually(settled)

        async def listed(service: Any, **fields: Any) -> pb.ListSubscribersResponse:
            return await service.ListSubscribers(pb.ListSubscribersRequest(**fields), timeout=TIMEOUT)

        async def is_listed(service: Any) -> bool:
            page = await listed(service)
            assert sorted(each.subscriber_id for each in page.subscribers) == ["web-0", "web-1", "web-2"]
            assert {each.node_id for each in page.subscribers} == running
            assert [each.entries_behind for each in page.subscribers] == [0, 0, 0]
            assert {each.applied_cursor for each in page.subscribers} == {page.head_cursor} == {cursor}
            assert all(each.client_version and each.key_set_revision for each in page.subscribers)
            assert list(page.missing_nodes) == []
            return True

        for service in (first, second):
            await eventually(partial(is_listed, service))

        async def reported() -> bool:
            page = await listed(first)
            (last,) = [each for each in page.subscribers if each.subscriber_id == "web-2"]
            # A report is sent again, and counted again, if its answer is late.
            assert last.validated >= 1
            assert set(last.refusals) == {"REVOKED"}
            return True

        await eventually(reported)

        # A follower that never confirms is found.
        async with Follower(two, subscriber_id="mute") as mute:
            await mute.caught_up_to(cursor)
            await one.revoke(subject="bob")

            async def found() -> bool:
                page = await listed(first, behind_only=True)
                assert [(each.subscriber_id, each.entries_behind) for each in page.subscribers] == [
                    ("mute", 2)
                ]
                return True

            await eventually(found)
            behind = await asyncio.to_thread(shell, pair[0], "subscribers", "--behind")
            assert "mute" in {each["subscriber_id"] for each in behind}
            assert len(await asyncio.to_thread(shell, pair[1], "nodes")) == 2


async def test_stopped_node_is_listed_no_more(pair: tuple[Node, Node]) -> None:
    async with Api(pair[0].grpc_address) as api:
        service: Any = AdminServiceStub(api.channel)

        async def count() -> int:
            return len((await service.ListNodes(pb.ListNodesRequest(), timeout=TIMEOUT)).nodes)

        async def both() -> bool:
            return await count() == 2

        await eventually(both)
        await asyncio.to_thread(pair[1].terminate)

        async def alone() -> bool:
            return await count() == 1

        await eventually(alone)
