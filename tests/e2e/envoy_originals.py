"""Compares the messages of the gateway with those of `xds-protos`, in one process with both. Prints the differences.

A program: `python -m tests.e2e.envoy_originals`, with `xds-protos` on the path.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from token_service.gateway.envoy import attribute_context_pb2, base_pb2, external_auth_pb2, http_status_pb2

OURS = (base_pb2, http_status_pb2, attribute_context_pb2, external_auth_pb2)
ENUMS_AS_NUMBERS = {"envoy.type.v3.HttpStatus.code"}
_ENUM, _INT32 = 14, 5


def messages(container: Any) -> Iterator[Any]:
    """Yield the messages of a file or of a message, at all depths."""
    of_file = hasattr(container, "message_types_by_name")
    for message in container.message_types_by_name.values() if of_file else container.nested_types:
        yield message
        yield from messages(message)


def shape(field: Any) -> dict[str, object]:
    """Return what decides about the encoding and the use of a field."""
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return {
        "number": field.number,
        "type": field.type,
        "repeated": field.is_repeated,
        "of": kind.full_name if kind is not None else None,
        "oneof": oneof.name if oneof is not None else None,
    }


def differences() -> Iterator[str]:
    """Yield each difference, and nothing if every field is that of the originals."""
    from google.protobuf import descriptor_pool

    originals: Any = descriptor_pool.Default()
    compared = 0
    for module in OURS:
        import_module(module.DESCRIPTOR.name.replace("/", ".").removesuffix(".proto") + "_pb2")
        for message in messages(module.DESCRIPTOR):
            original = originals.FindMessageTypeByName(message.full_name)
            if original is message:
                yield f"{message.full_name}: compared with itself"
            for field in message.fields:
                theirs = original.fields_by_name.get(field.name)
                if theirs is None:
                    yield f"{field.full_name}: not in the original"
                    continue
                expected = shape(theirs)
                if field.full_name in ENUMS_AS_NUMBERS and expected["type"] == _ENUM:
                    expected |= {"type": _INT32, "of": None}
                if shape(field) != expected:
                    yield f"{field.full_name}: {shape(field)}, not {expected}"
                compared += 1
            for enum in message.enum_types:
                theirs = originals.FindEnumTypeByName(enum.full_name)
                values = {value.name: value.number for value in enum.values}
                if values != {value.name: value.number for value in theirs.values}:
                    yield f"{enum.full_name}: {values}"
        for name, service in module.DESCRIPTOR.services_by_name.items():
            theirs = originals.FindServiceByName(service.full_name)
            for method in service.methods:
                other = theirs.methods_by_name[method.name]
                ours = (method.input_type.full_name, method.output_type.full_name)
                if ours != (other.input_type.full_name, other.output_type.full_name):
                    yield f"{name}.{method.name}: {ours}"
    if compared < 25:
        yield f"only {compared} fields were compared"


if __name__ == "__main__":
    found = list(differences())
    print("\n".join(found))
    sys.exit(1 if found else 0)
