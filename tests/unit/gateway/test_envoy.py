"""The generated messages of Envoy live beside the originals in one process."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool

from token_service.gateway.envoy import external_auth_pb2
from token_service.gateway.envoy.pool import POOL


def test_messages_are_in_a_pool_of_their_own() -> None:
    assert POOL is not descriptor_pool.Default()
    assert external_auth_pb2.CheckRequest.DESCRIPTOR.file.pool is POOL


def test_default_pool_takes_other_definitions_of_the_same_names() -> None:
    for name in ("envoy/service/auth/v3/external_auth.proto", "envoy/another.proto"):
        pool = descriptor_pool.DescriptorPool() if "another" in name else descriptor_pool.Default()
        other = descriptor_pb2.FileDescriptorProto(
            name=name, package="envoy.service.auth.v3", syntax="proto3"
        )
        other.message_type.add(name="CheckRequest").field.add(name="other", number=1, type=9, label=1)
        pool.Add(other)
        found = pool.FindMessageTypeByName("envoy.service.auth.v3.CheckRequest")
        assert [field.name for field in found.fields] == ["other"]
    assert [field.name for field in external_auth_pb2.CheckRequest.DESCRIPTOR.fields] == ["attributes"]
