"""Bytes that are no request get a typed error and no log line, at every method, gRPC's own services included."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tests.unit.rpc.serving import TIMEOUT, Failure, Served, complaints, serving
from token_service.v1 import (
    event_service_pb2,
    key_service_pb2,
    personal_access_token_service_pb2,
    session_service_pb2,
    token_service_pb2,
)

OURS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (
        token_service_pb2,
        session_service_pb2,
        personal_access_token_service_pb2,
        key_service_pb2,
        event_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
GRPCS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (health_pb2, reflection_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
ALL = {**OURS, **GRPCS}
ANSWERS = {
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "NOT_FOUND",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "ALREADY_EXISTS",
}


@pytest.fixture
async def served(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Served]:
    async with serving() as served:
        with caplog.at_level(logging.INFO):
            yield served
            issued = await served.issue()
            assert (await served.validate(issued.access_token)).active
            assert served.server._edge.running == 0
    assert complaints(caplog) == []


async def send(served: Served, path: str, data: bytes) -> bytes | Failure:
    """Return the first answer, or the failure."""
    method = ALL[path]
    channel: Any = served.channel  # without serializers, requests and answers are bytes
    try:
        if method.client_streaming:
            call = channel.stream_stream(path)(iter([data]))
        elif method.server_streaming:
            call = channel.unary_stream(path)(data)
        else:
            return bytes(await channel.unary_unary(path)(data, timeout=TIMEOUT))
        answer = await asyncio.wait_for(call.read(), TIMEOUT)
        call.cancel()
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    return b"" if answer is grpc.aio.EOF else bytes(answer)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tagged(number: int, wire_type: int, data: bytes) -> bytes:
    return varint(number << 3 | wire_type) + data


@pytest.mark.parametrize("path", ALL)
async def test_bytes_that_are_no_message_are_refused(served: Served, path: str) -> None:
    for data in (
        b"\xff" * 64,
        b"\x0a",  # a length without a value
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x0b" * 500,  # groups in groups
        b"\x07\x07",  # no such wire type
        b"\x00",  # field number 0
    ):
        outcome = await send(served, path, data)
        assert isinstance(outcome, Failure), data
        assert (outcome.code, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    generator = random.Random(path)
    for _ in range(30):
        outcome = await send(served, path, generator.randbytes(generator.randrange(1, 100)))
        assert isinstance(outcome, bytes) or outcome.code in ANSWERS, outcome


@pytest.mark.parametrize("path", ALL)
async def test_fields_of_the_wrong_type_and_text_that_is_not_utf_8(served: Served, path: str) -> None:
    for field in ALL[path].input_type.fields:
        for data in (
            tagged(field.number, 0, varint(2**64 - 1)),
            tagged(field.number, 1, b"\xff" * 8),
            tagged(field.number, 5, b"\xff" * 4),
            tagged(field.number, 2, varint(0)),
            tagged(field.number, 2, varint(4) + b"\x00" * 4),
        ):
            outcome = await send(served, path, data)
            assert isinstance(outcome, bytes) or outcome.code in ANSWERS, (field.name, data, outcome)
        if field.type == FieldDescriptor.TYPE_STRING:
            outcome = await send(served, path, tagged(field.number, 2, varint(4) + b"ok\xff\xfe"))
            assert isinstance(outcome, Failure), field.name
            assert (outcome.code, outcome.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


@pytest.mark.parametrize("path", OURS)
async def test_huge_texts_are_refused(served: Served, path: str) -> None:
    for field in OURS[path].input_type.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            for text in (b"x" * 1_000_000, "\U0001f511".encode() * 100_000, b"\x00" * 100_000):
                data = tagged(field.number, 2, varint(len(text)) + text)
                outcome = await send(served, path, data * 2)
                assert isinstance(outcome, bytes) or outcome.code in ANSWERS, (field.name, outcome)
                if isinstance(outcome, Failure):
                    assert outcome.reason


@pytest.mark.parametrize("path", OURS)
async def test_a_request_beyond_the_limit_is_refused_by_grpc(served: Served, path: str) -> None:
    outcome = await send(served, path, tagged(1, 2, varint(10_000_000) + b"x" * 10_000_000))
    assert isinstance(outcome, Failure)
    assert outcome.code == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("depth", [9, 30, 60, 10_000])
async def test_too_deep_custom_claims_are_refused(served: Served, depth: int) -> None:
    data = b""  # a Value; in it: field 5 struct_value, its field 1 fields, an entry with field 2 value
    for _ in range(depth):
        entry = tagged(1, 2, varint(1) + b"a") + tagged(2, 2, varint(len(data)) + data)
        struct = tagged(1, 2, varint(len(entry)) + entry)
        data = tagged(5, 2, varint(len(struct)) + struct)
        if len(data) > 4_000_000:
            break
    entry = tagged(1, 2, varint(1) + b"a") + tagged(2, 2, varint(len(data)) + data)
    struct = tagged(1, 2, varint(len(entry)) + entry)
    request = tagged(1, 2, b"\x01a") + tagged(2, 2, b"\x01b") + tagged(7, 2, varint(len(struct)) + struct)
    outcome = await send(served, "/token_service.v1.TokenService/IssueToken", request)
    assert isinstance(outcome, Failure)
    assert outcome.code == "INVALID_ARGUMENT"
    assert outcome.reason in {"INVALID_REQUEST", "CUSTOM_CLAIMS_TOO_LARGE"}


async def test_unknown_method_is_unimplemented(served: Served) -> None:
    call: Any = served.channel.unary_unary("/token_service.v1.TokenService/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
