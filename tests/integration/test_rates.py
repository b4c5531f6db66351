"""Two nodes with one Redis admit a rate together, and each by itself while Redis is away."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from redis.asyncio import Redis

from tests.integration.calls import ACCESS, Api
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.redis import RedisServer
from token_service.v1.token_service_pb2 import IssueTokenRequest

LIMIT = 8


@pytest.fixture
def redis_server_of_this_test() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def pair(redis_server_of_this_test: RedisServer, tmp_path: Path) -> Iterator[list[Node]]:
    env = {
        "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path / 'token_service.db'}",
        "TOKEN_SERVICE_REDIS_URL": redis_server_of_this_test.url,
        "TOKEN_SERVICE_POLICY__INTERNAL__RATES": f"issue_per_subject={LIMIT}/1h, issue_per_address=1000/1h",
    }
    with nodes(2, env) as made:
        yield made


@pytest.fixture
async def apis(pair: list[Node]) -> AsyncIterator[list[Api]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Api(node.grpc_address)) for node in pair]


async def admitted(api: Api, subject: str, calls: int) -> int:
    """Return how many of the calls succeed. Others must be refused by the rate of the subject, with its details."""
    count = 0
    for _ in range(calls):
        request = IssueTokenRequest(subject=subject, client_id="web", token_types=[ACCESS])
        request.client_context.ip_address = "192.0.2.1"
        try:
            await api.tokens.IssueToken(request)
            count += 1
        except grpc.aio.AioRpcError as error:
            refused = error
        else:
            continue
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(refused.trailing_metadata() or ())
        status = Status.FromString(trailers["grpc-status-details-bin"])
        info, delay = ErrorInfo(), RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(delay)
        assert (info.reason, dict(info.metadata)) == (
            "RATE_LIMITED",
            {"bucket": "subject", "operation": "issue", "rate": f"{LIMIT}/1h"},
        )
        assert 0 < delay.retry_delay.seconds <= 3600 * 17 / 16
    return count


def redis_in_use(node: Node) -> dict[tuple[str, str], float]:
    """Return the values of the metric by use and server."""
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    found = {}
    for labels, value in re.findall(r"^token_service_redis_in_use\{(.*)\} (\S+)$", page, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found[named["token_service_redis_use"], named["server_address"]] = float(value)
    return found


async def test_nodes_share_rates_through_redis_and_memory_takes_over(
    redis_server_of_this_test: RedisServer, pair: list[Node], apis: list[Api]
) -> None:
    server = redis_server_of_this_test
    one, other = apis
    attempts = 0

    async def shared() -> str:
        """Return a subject that both nodes count together; empty: Redis did not answer within its time."""
        nonlocal attempts
        attempts += 1
        subject = f"alice-{attempts}@example.org"
        counts = await admitted(one, subject, 5), await admitted(other, subject, 5)
        return subject if counts == (5, LIMIT - 5) else ""

    subject = await eventually(shared)
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        keys = [key async for key in redis.scan_iter("*rate*")]
        assert len(keys) >= 2  # a subject, an address
        assert not any("example" in key or "192.0" in key for key in keys)
        epoch = str(await redis.get("token_service:epoch"))
        assert all(key.startswith(f"token_service:{{{epoch}}}:rate/") for key in keys)
        assert all([0 < await redis.ttl(key) <= 3600 for key in keys])

    used = {("rates", f"127.0.0.1:{server.port}"): 1.0, ("revocations", f"127.0.0.1:{server.port}"): 1.0}
    await eventually(lambda: redis_in_use(pair[0]) == used)

    server.kill()
    for api in apis:
        assert await admitted(api, "carol", 3 * LIMIT) == LIMIT, "neither fails nor is unlimited"
    assert await admitted(one, subject, 2 * LIMIT) == LIMIT - 5, "it knows its own share"

    await eventually(lambda: redis_in_use(pair[0]) == dict.fromkeys(used, 0.0))

    server.start()
    await eventually(shared)
    await eventually(lambda: redis_in_use(pair[0]) == used)
    for node in pair:
        log = node.log_text()
        assert "each process counts the rates of calls by itself until Redis answers" in log
        assert "the rates of calls are counted for all nodes together again" in log
