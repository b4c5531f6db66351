"""A strict parser for untrusted JSON objects: no duplicate names (RFC 8259, section 4; RFC 8725, section 2.4)."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

MAX_DEPTH = 16
"""The deepest nesting of arrays and objects."""


def _object_type(depth: int) -> Any:
    """Return the type of an object with at most `depth` levels, itself included. The parser enforces it."""
    scalar = str | int | float | bool | None
    value: Any = scalar
    for _ in range(depth - 1):
        value = scalar | list[value] | dict[str, value]
    return dict[str, value]


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_shallow = msgspec.json.Decoder(
    _object_type(6)
).decode  # the size of a deeper type grows exponentially
encode = msgspec.json.Encoder().encode
"""`encode(value)` returns canonical bytes: UTF-8, no white space, members in insertion order."""


def decode_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in `data` (UTF-8).

    Raises `ValueError` for all other input: other encodings, byte order marks, duplicate names at any level, NaN and
    infinities, trailing data, nesting deeper than `MAX_DEPTH`.
    """
    value: dict[str, Any]
    try:
        value = _decode_shallow(data)
        # If encoding the value again gives the same bytes, the parser dropped no duplicate name, and the slower
        # second parse is unnecessary.
        if encode(value) == data:
            return value
    except (msgspec.MsgspecError, ValueError):
        pass  # the object may be valid but deeper than the first decoder allows
    try:
        value = _decode(data)
        json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(str(error)) from None
    require_depth(value, MAX_DEPTH)
    return value


def require_depth(value: object, limit: int) -> None:
    """Raise `ValueError` if `value` nests arrays and objects deeper than `limit`."""
    level: list[object] = [value]
    depth = 0
    while level:
        containers = [item for item in level if isinstance(item, dict | list)]
        if containers and depth == limit:
            raise ValueError(f"nested deeper than {limit}")
        level = [x for c in containers for x in (c.values() if isinstance(c, dict) else c)]
        depth += 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
