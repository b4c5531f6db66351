"""Conversion between well-known protobuf types and plain values. An out-of-range value is a violation, not an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from token_service.core.limits import Checks

_MIN_SECONDS: Final = -62_135_596_800  # 0001-01-01
_MAX_SECONDS: Final = 253_402_300_799  # 9999-12-31T23:59:59
_MAX_SPAN: Final = 315_576_000_000  # 10,000 years, the maximum of a Duration
_MAX_EXACT: Final = 2.0**53
"""Whole numbers below this limit are exact in JSON, in a double and in Python."""
_SHOWN: Final = 64
"""Characters of a name in the path of a violation."""


def timestamp(numeric_date: float) -> Timestamp:
    """Convert a NumericDate to a Timestamp, to the microsecond."""
    message = Timestamp()
    set_timestamp(message, numeric_date)
    return message


def set_timestamp(message: Timestamp, numeric_date: float) -> None:
    """Set a Timestamp inside another message to a NumericDate, to the microsecond."""
    seconds, micros = divmod(round(numeric_date * 1_000_000), 1_000_000)
    message.seconds = seconds
    if micros:
        message.nanos = micros * 1000


def duration(seconds: float) -> Duration:
    """Convert seconds to a Duration, to the microsecond."""
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1000)


def seconds_of_timestamp(value: Timestamp, field: str, checks: Checks) -> float:
    """Convert a Timestamp to a NumericDate; an invalid one adds a violation and gives 0."""
    if _MIN_SECONDS <= value.seconds <= _MAX_SECONDS and 0 <= value.nanos < 1_000_000_000:
        return value.seconds + value.nanos / 1_000_000_000
    checks.add(field, "is not a valid Timestamp (years 1 to 9999, 0 to 999999999 nanoseconds)")
    return 0.0


def seconds_of_duration(value: Duration, field: str, checks: Checks) -> float:
    """Convert a Duration to seconds; an invalid one adds a violation and gives 0."""
    seconds, nanos = value.seconds, value.nanos
    if abs(seconds) <= _MAX_SPAN and abs(nanos) < 1_000_000_000 and seconds * nanos >= 0:
        return seconds + nanos / 1_000_000_000
    checks.add(field, "is not a valid Duration (10,000 years, nanoseconds of the same sign below a second)")
    return 0.0


def json_of_struct(struct: Struct, field: str, checks: Checks) -> dict[str, Any]:
    """Convert a Struct to a JSON object.

    Whole numbers below 2**53 become integers. NaN and infinities are violations. The conversion stops once `checks`
    is full.
    """
    found: dict[str, Any] = {}
    for name, value in struct.fields.items():
        if checks.full:
            break
        found[name] = _json(value, f"{field}.{name[:_SHOWN]}", checks)
    return found


def _json(value: Value, field: str, checks: Checks) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        if not math.isfinite(number):
            checks.add(field, "is not a finite number")
            return None
        return int(number) if abs(number) < _MAX_EXACT and number == int(number) else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return json_of_struct(value.struct_value, field, checks)
    if kind == "list_value":
        found = []
        for number, item in enumerate(value.list_value.values):
            if checks.full:
                break
            found.append(_json(item, f"{field}[{number}]", checks))
        return found
    if kind is None:
        checks.add(field, "has no value")
    return None


def struct_of_json(value: Mapping[str, Any]) -> Struct:
    """Convert a JSON object to a Struct. Numbers become doubles; a number too large for a double becomes a string."""
    struct = Struct()
    _fill(struct, value)
    return struct


def _fill(struct: Struct, value: Mapping[str, Any]) -> None:
    for name, item in value.items():
        _set(struct.fields[name], item)


def _set(target: Value, item: Any) -> None:
    if item is None:
        target.null_value = 0  # type: ignore[assignment]  # NULL_VALUE, the only one
    elif isinstance(item, bool):
        target.bool_value = item
    elif isinstance(item, int | float):
        try:
            target.number_value = float(item)
        except OverflowError:
            target.string_value = str(item)
    elif isinstance(item, str):
        target.string_value = item
    elif isinstance(item, Mapping):
        target.struct_value.SetInParent()
        _fill(target.struct_value, item)
    elif isinstance(item, Sequence):
        target.list_value.SetInParent()
        _extend(target.list_value, item)
    else:
        raise TypeError(f"{type(item).__name__} is not JSON")


def _extend(target: ListValue, items: Sequence[Any]) -> None:
    for item in items:
        _set(target.values.add(), item)
