"""Required fields: annotated where the comment says so, and refused when they are missing."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from tests.unit.rpc.serving import TIMEOUT, Failure, serving
from token_service.v1 import (
    client_service_pb2,
    key_service_pb2,
    personal_access_token_service_pb2,
    session_service_pb2,
    token_pb2,
    token_service_pb2,
)

PROTOS = Path(__file__).resolve().parents[4] / "protos" / "token_service" / "v1"
MODULES = (
    token_pb2,
    token_service_pb2,
    session_service_pb2,
    key_service_pb2,
    client_service_pb2,
    personal_access_token_service_pb2,
)


def is_required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


METHODS = [
    (f"/{service.full_name}/{method.name}", method.input_type)
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if any(is_required(field) for field in method.input_type.fields)
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_comment_and_annotation_agree(module: object) -> None:
    source = (PROTOS / Path(module.DESCRIPTOR.name).name).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    said = re.findall(
        r"^ +// Required\.[^\n]*\n(?: +//[^\n]*\n)* +(?:repeated )?[\w.]+ (\w+) = \d+([^;]*);",
        source,
        re.MULTILINE,
    )
    annotated = re.findall(r"(\w+) = \d+ \[\(google\.api\.field_behavior\) = REQUIRED\];", source)
    assert [name for name, _ in said] == annotated
    assert all("REQUIRED" in options for _, options in said)


def test_some_fields_are_required() -> None:
    assert len(METHODS) == 22


@pytest.mark.parametrize(("path", "request_type"), METHODS, ids=[path for path, _ in METHODS])
async def test_empty_request_names_every_required_field(path: str, request_type: Descriptor) -> None:
    required = {field.name for field in request_type.fields if is_required(field)}
    async with serving() as served:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = served.channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=TIMEOUT)
    failure = Failure(caught.value)
    assert failure.code == "INVALID_ARGUMENT"
    assert required <= set(failure.fields)
