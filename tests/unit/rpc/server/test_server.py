"""The server as a whole: health, reflection, binding and shutdown."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.deadline import eventually
from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, raising
from tests.unit.rpc.serving import TIMEOUT, Served, refused, serving
from token_service.clock import SystemClock
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.rpc.server import standard_services as plain
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.v1 import token_service_pb2 as pb

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = [
    f"token_service.v1.{name}Service"
    for name in (
        "Token",
        "Session",
        "PersonalAccessToken",
        "Key",
        "Client",
        "Audit",
        "Event",
        "Admin",
        "Authorization",
    )
]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def health(served: Served) -> Any:
    return health_pb2_grpc.HealthStub(served.channel)


async def status(served: Served, service: str) -> Any:
    return (
        await health(served).Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
    ).status


async def _is(served: Served, service: str, expected: int) -> bool:
    return bool(await status(served, service) == expected)


async def reads(watch: Any, expected: int) -> None:
    """Read a watched status until it has the wanted value, because a busy node may be behind for a moment."""
    while (await asyncio.wait_for(watch.read(), TIMEOUT)).status != expected:
        pass


async def test_every_service_is_healthy(served: Served) -> None:
    for service in ("", *SERVICES):
        assert await status(served, service) == SERVING
    failure = await refused(health(served).Check(health_pb2.HealthCheckRequest(service="no.such")))
    assert failure.code == "NOT_FOUND"


async def test_a_node_that_is_behind_says_so() -> None:
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    async with serving(
        node=Node(clock, stores=stores, log=log, max_staleness=0.3, poll_interval=0.05)
    ) as served:
        watch = health(served).Watch(health_pb2.HealthCheckRequest())
        await reads(watch, SERVING)
        log.before["head"] = raising(StoreUnavailableError())
        await reads(watch, NOT_SERVING)
        await eventually(lambda: _is(served, SERVICES[0], NOT_SERVING))
        assert await status(served, SERVICES[3]) == SERVING
        log.before.clear()
        await reads(watch, SERVING)
        watch.cancel()


async def test_watcher_that_reads_nothing_does_not_delay_others() -> None:
    clock = SystemClock()
    log = Intercepted((stores := MemoryStores(clock)).log)
    node = Node(clock, stores=stores, log=log, max_staleness=0.3, poll_interval=0.05)
    async with serving(node=node) as served:
        host, _, port = served.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        # HTTP/2 (RFC 9113): no table for headers, and not one byte may be sent in a stream.
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack(">HIHI", 1, 0, 4, 0)))
        path = b"/grpc.health.v1.Health/Watch"
        fields = {
            b":path": path,
            b":authority": b"x",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
        }
        block = b"\x83\x86" + b"".join(
            b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
            for name, value in fields.items()
        )
        writer.write(frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5)))
        await eventually(lambda: served.server._plain._streams == 1)
        watch = health(served).Watch(health_pb2.HealthCheckRequest())
        await reads(watch, SERVING)
        log.before["head"] = raising(StoreUnavailableError())
        await reads(watch, NOT_SERVING)
        await asyncio.wait_for(served.server.stop(0.1), TIMEOUT)
        writer.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def reflection(served: Served) -> Any:
    channel: Any = served.channel  # the types of the stub know no asyncio
    return reflection_pb2_grpc.ServerReflectionStub(channel)


async def test_streams_without_authorization_are_limited(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "_MAX_STREAMS", 2)
    watches = [health(served).Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
    for watch in watches:
        assert (await asyncio.wait_for(watch.read(), TIMEOUT)).status == SERVING
    reflect = reflection(served).ServerReflectionInfo
    for refused_call in (health(served).Watch(health_pb2.HealthCheckRequest()), reflect()):
        failure = await refused(refused_call.read())
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert await status(served, "") == SERVING
    for watch in watches:
        watch.cancel()
    await eventually(lambda: served.server._plain._streams == 0)
    watch = health(served).Watch(health_pb2.HealthCheckRequest())
    assert (await asyncio.wait_for(watch.read(), TIMEOUT)).status == SERVING
    watch.cancel()


async def test_reflection_describes_every_service(served: Served) -> None:
    stub = reflection(served)

    async def ask(**question: Any) -> Any:
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))
        return await asyncio.wait_for(call.read(), TIMEOUT)

    listed = {service.name for service in (await ask(list_services="")).list_services_response.service}
    assert listed == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    for service in listed:
        (data,) = (await ask(file_containing_symbol=service)).file_descriptor_response.file_descriptor_proto[
            :1
        ]
        assert FileDescriptorProto.FromString(data).name
    assert (await ask(file_containing_symbol="no.such")).error_response.error_code == 5


async def test_start_returns_the_bound_address(tmp_path: Path, served: Served) -> None:
    assert served.address.startswith("127.0.0.1:")
    assert not served.address.endswith(":0")
    async with serving(address=f"unix:{tmp_path}/socket") as over_unix:
        assert (await over_unix.issue()).access_token


async def test_an_address_in_use_is_refused(served: Served) -> None:
    with pytest.raises(ConfigurationError, match=served.address):
        async with serving(address=served.address):
            pass


async def test_message_beyond_the_limit_is_refused(served: Served) -> None:
    async with serving(limits=GrpcLimits(max_message_bytes=65_536)) as small:
        failure = await refused(small.validate("x" * 70_000))
        assert failure.code == "RESOURCE_EXHAUSTED"
        assert not (await small.validate("x" * 60_000)).active


async def test_pings_every_ten_seconds_are_no_abuse(served: Served) -> None:
    options = dict(GrpcLimits().options())
    assert options["grpc.http2.min_ping_interval_without_data_ms"] < 10_000
    assert options["grpc.keepalive_permit_without_calls"] == 1


async def test_a_running_call_is_finished_before_the_server_ends() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    going_on = asyncio.Event()
    sessions.before["create"] = going_on.wait  # type: ignore[assignment]
    async with serving(node=Node(clock, stores=stores, sessions=sessions)) as served:
        running = asyncio.ensure_future(served.issue())
        await eventually(lambda: "create" in sessions.calls)
        watch = health(served).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        reader = served.follow()
        await reader.caught_up()
        stopping = asyncio.create_task(served.server.stop(300))
        assert (await asyncio.wait_for(watch.read(), TIMEOUT)).status == NOT_SERVING
        assert (await reader.ended()).reason == "SHUTTING_DOWN"
        failure = await refused(watch.read())
        assert (failure.code, failure.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert not stopping.done()
        going_on.set()
        assert (await running).refresh_token
        await asyncio.wait_for(stopping, TIMEOUT)
        assert (await refused(served.validate("x"))).code == "UNAVAILABLE"


async def test_a_call_that_does_not_end_is_cut_off_after_the_grace() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    sessions.before["create"] = asyncio.Event().wait  # type: ignore[assignment]
    async with serving(node=Node(clock, stores=stores, sessions=sessions)) as served:
        running = asyncio.ensure_future(served.issue())
        await eventually(lambda: "create" in sessions.calls)
        await asyncio.wait_for(served.server.stop(0.1), TIMEOUT)
        assert (await refused(running)).code in {"UNAVAILABLE", "CANCELLED"}


async def test_an_open_reflection_stream_does_not_hold_up_the_end() -> None:
    async with serving() as served:
        call = reflection(served).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        assert (await call.read()).HasField("list_services_response")
        await asyncio.wait_for(served.server.stop(300), TIMEOUT)


async def test_calls_beyond_the_limit_are_refused() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    going_on = asyncio.Event()
    sessions.before["create"] = going_on.wait  # type: ignore[assignment]
    node = Node(clock, stores=stores, sessions=sessions)
    async with serving(node=node, limits=GrpcLimits(max_concurrent_calls=3)) as served:
        running = [asyncio.ensure_future(served.issue()) for _ in range(3)]
        await eventually(lambda: sessions.calls.count("create") == 3)
        failure = await refused(served.validate("x"))
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert await status(served, "") == SERVING
        going_on.set()
        await asyncio.gather(*running)
        assert not (await served.validate("x")).active


async def test_a_call_without_a_deadline_gets_one() -> None:
    clock = SystemClock()
    sessions = Intercepted((stores := MemoryStores(clock)).sessions)
    sessions.before["create"] = asyncio.Event().wait  # type: ignore[assignment]
    node = Node(clock, stores=stores, sessions=sessions)
    async with serving(node=node, limits=GrpcLimits(default_deadline=0.1)) as served:
        call = served.tokens.IssueToken(pb.IssueTokenRequest(subject="a", client_id="b"))
        failure = await refused(call)
        assert (failure.code, failure.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


async def test_two_servers_of_one_process_stop_on_their_own() -> None:
    async with serving() as one:
        async with serving() as other:
            assert (await other.issue()).access_token
        assert (await one.issue()).access_token
        assert isinstance(one.channel, grpc.aio.Channel)
