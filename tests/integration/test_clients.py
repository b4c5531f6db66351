"""Registered clients across nodes, the command line and crashes, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.integration.calls import ACCESS, STRONG, Api, refused
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from token_service.v1 import client_service_pb2 as pb, client_service_pb2_grpc

TIMEOUT = 60


def stub(api: Api) -> Any:
    return client_service_pb2_grpc.ClientServiceStub(api.channel)


@pytest.fixture(scope="module")
def pair(database_url: str) -> Iterator[list[Node]]:
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": database_url}) as found:
        yield found


async def create(api: Api, client_id: str) -> pb.Client:
    request = pb.CreateClientRequest(client=pb.Client(client_id=client_id))
    return (await stub(api).CreateClient(request, timeout=TIMEOUT)).client


async def state(api: Api, client_id: str) -> str:
    answer = await stub(api).GetClient(pb.GetClientRequest(client_id=client_id), timeout=TIMEOUT)
    return pb.ClientState.Name(answer.client.state).removeprefix("CLIENT_STATE_")


async def test_kill_between_end_and_revocation_leaves_both_or_none(pair: list[Node]) -> None:
    node = pair[0]
    names = [f"crash-{number}" for number in range(40)]
    disabled: set[str] = set()

    async with Api(node.grpc_address) as api:
        for name in names:
            await create(api, name)
        tokens = {
            name: (await api.issue(client_id=name, token_types=[ACCESS])).access_token for name in names
        }

        async def disable(name: str) -> None:
            try:
                await stub(api).DisableClient(pb.DisableClientRequest(client_id=name), timeout=TIMEOUT)
            except grpc.aio.AioRpcError:
                return
            disabled.add(name)

        calls = [asyncio.create_task(disable(name)) for name in names]
        await eventually(lambda: len(disabled) >= 3)
        await asyncio.to_thread(node.kill)
        await asyncio.gather(*calls)
        await asyncio.to_thread(node.start)
        found = {name: await state(api, name) for name in names}
        for name in names:
            dead = await api.why(tokens[name], consistency=STRONG) == "REVOKED"
            assert dead is (found[name] == "DISABLED"), name
            assert name not in disabled or dead, name


async def test_disabled_client_is_refused_at_the_other_node(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as one, Api(pair[1].grpc_address) as other:
        await create(one, "shared")
        issued = await other.issue(client_id="shared")
        await stub(one).DisableClient(pb.DisableClientRequest(client_id="shared"), timeout=TIMEOUT)
        assert (await refused(one.issue(client_id="shared"))).reason == "CLIENT_DISABLED"
        # The database refuses the session even before the other node has heard of it.
        assert (await refused(other.issue(client_id="shared"))).reason == "CLIENT_DISABLED"
        assert await other.why(issued.access_token, consistency=STRONG) == "REVOKED"
        assert (
            await refused(other.issue(client_id="shared", token_types=[ACCESS]))
        ).reason == "CLIENT_DISABLED"
        assert (await refused(other.refresh(issued.refresh_token, "shared"))).reason == "CLIENT_DISABLED"


async def test_change_on_the_command_line_reaches_a_running_node(pair: list[Node], database_url: str) -> None:
    operator = Operator({"TOKEN_SERVICE_DATABASE_URL": database_url}, group="clients")
    async with Api(pair[0].grpc_address) as api:
        await operator.run("create", "--client-id", "by-command", "--scope", "read")
        await eventually(lambda: _is_bounded(api))
        token = (await api.issue(client_id="by-command", scopes=["read"], token_types=[ACCESS])).access_token
        await operator.run("disable", "by-command")
        assert await api.why(token, consistency=STRONG) == "REVOKED"
        failure = await refused(api.issue(client_id="by-command", scopes=["read"], token_types=[ACCESS]))
        assert failure.reason == "CLIENT_DISABLED"


async def _is_bounded(api: Api) -> bool:
    try:
        await api.issue(client_id="by-command", scopes=["write"], token_types=[ACCESS])
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.PERMISSION_DENIED
    return False
