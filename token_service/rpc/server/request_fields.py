"""Limit on the fields of an encoded request, checked before parsing.

Two bytes on the wire may become an object of a hundred bytes: protobuf needs more than a second and 500 MB to parse
5 MB of empty list items. Honest requests have few fields.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from token_service.core.limits import MAX_FIELDS
from token_service.errors import InvalidRequestError

_FEW_BYTES: Final = 4096
"""A request up to this size can't have too many fields; nearly all requests are smaller."""
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_PACKED: Final = "packed"

Shape = dict[int, "Shape | str"]
"""Content of length-delimited fields by field number: a message, or packed numbers. Strings and bytes are absent."""


def shape_of(descriptor: Any) -> Shape:
    """Return the shape of a message type. A recursive type has a recursive shape."""
    return _shape_of(descriptor, {})


def _shape_of(descriptor: Descriptor, known: dict[str, Shape]) -> Shape:
    shape = known.get(descriptor.full_name)
    if shape is None:
        shape = known[descriptor.full_name] = {}
        for field in descriptor.fields:
            if field.message_type is not None:
                shape[field.number] = _shape_of(field.message_type, known)
            elif field.type not in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
                shape[field.number] = _PACKED
    return shape


def require_few_fields(data: bytes, shape: Shape) -> None:
    """Raise `InvalidRequestError` if an encoded message has more than `MAX_FIELDS` fields and list items in all.

    The parser reports malformed messages.
    """
    if len(data) > _FEW_BYTES and _count(data, shape) > MAX_FIELDS:
        raise InvalidRequestError.of("request", f"has more than {MAX_FIELDS} fields and list items in all")


def _count(data: bytes, shape: Shape) -> int:
    """Count the fields, at least until the count exceeds the limit."""
    count = 0
    todo: list[tuple[int, int, Shape]] = [(0, len(data), shape)]
    try:
        while todo and count <= MAX_FIELDS:
            at, end, shape = todo.pop()
            while at < end and count <= MAX_FIELDS:
                count += 1
                tag, at = _varint(data, at)
                kind = tag & 7
                if kind == _LENGTH_DELIMITED:
                    length, at = _varint(data, at)
                    inner = shape.get(tag >> 3)
                    if inner is _PACKED:
                        count += length
                    elif inner is not None and length:
                        todo.append((at, min(at + length, end), inner))  # type: ignore[arg-type]  # the only text is "packed"
                    at += length
                elif kind == _VARINT:
                    _, at = _varint(data, at)
                elif kind == _FIXED64:
                    at += 8
                elif kind == _FIXED32:
                    at += 4
    except IndexError:
        pass
    return count


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a varint; return it and the next offset. Raises `IndexError` at the end of the data."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value, shift = byte & 0x7F, 7
    while byte >= 0x80 and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at
