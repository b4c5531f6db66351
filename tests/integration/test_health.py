"""Health, readiness and reflection, for orchestrators, load balancers and new users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.integration.calls import Api
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from tests.support.postgres import PostgresServer
from tests.support.processes import http_status

SERVICES = [
    f"token_service.v1.{name}Service"
    for name in ("Token", "Session", "PersonalAccessToken", "Key", "Client", "Audit", "Authorization")
]


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer(fsync=False) as server:
        yield server


@pytest.fixture(scope="module")
def node(own_postgres: PostgresServer) -> Iterator[Node]:
    env = {
        "TOKEN_SERVICE_DATABASE_URL": own_postgres.create_database(),
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_REPLICA_MAX_AGE": "4s",
    }
    with Node(env=env) as node:
        yield node


@pytest.fixture
async def api(node: Node) -> AsyncIterator[Api]:
    async with Api(node.grpc_address) as api:
        yield api


async def check(api: Api, service: str) -> str:
    answer = await api.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


async def test_every_service_reports_its_health(api: Api) -> None:
    for service in ("", *SERVICES):
        assert await check(api, service) == "SERVING", service
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(api, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_every_service_and_describes_it(api: Api) -> None:
    channel: Any = api.channel  # the types of the stub know only the synchronous API
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def ask(**fields: Any) -> reflection_pb2.ServerReflectionResponse:
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**fields)]), timeout=60)
        return await anext(aiter(call))

    listed = {each.name for each in (await ask(list_services="")).list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health"}
    for service in SERVICES:
        answer = await ask(file_containing_symbol=service)
        assert answer.file_descriptor_response.file_descriptor_proto


def test_http_edge_serves_health_readiness_and_keys(node: Node) -> None:
    assert http_status(node.http_address, "/healthz") == 200
    assert http_status(node.http_address, "/readyz") == 200
    assert http_status(node.http_address, "/.well-known/jwks.json") == 200
    assert http_status(node.http_address, "/no-such-page") == 404


async def test_not_ready_without_the_database_and_ready_again_with_it(
    own_postgres: PostgresServer, node: Node, api: Api
) -> None:
    await asyncio.to_thread(own_postgres.kill)
    await eventually(lambda: http_status(node.http_address, "/readyz") == 503)

    async def all_are(status: str) -> bool:
        return {await check(api, service) for service in ("", SERVICES[0])} == {status}

    await eventually(lambda: all_are("NOT_SERVING"))
    # Still alive: a restart would not repair the database. And the keys are public.
    assert http_status(node.http_address, "/healthz") == 200
    assert http_status(node.http_address, "/.well-known/jwks.json") == 200
    await asyncio.to_thread(own_postgres.start)
    await eventually(lambda: http_status(node.http_address, "/readyz") == 200)
    await eventually(lambda: all_are("SERVING"))
