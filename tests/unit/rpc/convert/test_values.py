from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, strategies as st

from token_service.core.limits import Checks
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.values import (
    json_of_struct,
    seconds_of_duration,
    seconds_of_timestamp,
    struct_of_json,
    timestamp,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


def violations(checks: Checks) -> dict[str, str]:
    try:
        checks.done()
    except InvalidRequestError as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON, max_size=4))
def test_a_struct_comes_back_as_the_json_it_was_made_from(value: dict[str, Any]) -> None:
    checks = Checks()
    back = json_of_struct(Struct.FromString(struct_of_json(value).SerializeToString()), "claims", checks)
    assert back == value
    assert violations(checks) == {}


@pytest.mark.parametrize(
    ("number", "back"),
    [(3.0, 3), (-0.0, 0), (2.5, 2.5), (2.0**53 - 1, 2**53 - 1), (2.0**53, 2.0**53), (-1e300, -1e300)],
)
def test_whole_numbers_become_integers_as_long_as_they_are_exact(number: float, back: float) -> None:
    struct = Struct()
    struct.fields["n"].number_value = number
    value = json_of_struct(struct, "claims", Checks())["n"]
    assert (value, type(value)) == (back, type(back))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_number_that_json_cannot_express_is_a_violation(number: float) -> None:
    struct = Struct()
    struct.fields["list"].list_value.values.add().struct_value.fields["n"].number_value = number
    checks = Checks()
    json_of_struct(struct, "claims", checks)
    assert violations(checks) == {"claims.list[0].n": "is not a finite number"}


def test_a_value_without_a_kind_is_a_violation() -> None:
    struct = Struct()
    struct.fields["empty"].CopyFrom(Value())
    checks = Checks()
    json_of_struct(struct, "claims", checks)
    assert violations(checks) == {"claims.empty": "has no value"}


def test_a_number_too_large_for_a_double_is_shown_as_text() -> None:
    assert struct_of_json({"n": 10**400}).fields["n"].string_value == str(10**400)


def test_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError):
        struct_of_json({"n": object()})


def test_empty_containers_keep_their_type() -> None:
    value: dict[str, Any] = {"object": {}, "list": [], "null": None}
    assert json_of_struct(struct_of_json(value), "claims", Checks()) == value


@pytest.mark.parametrize(
    ("date", "seconds", "nanos"),
    [
        (0.0, 0, 0),
        (1.5, 1, 500_000_000),
        (1795217816.157786, 1795217816, 157_786_000),
        (-0.25, -1, 750_000_000),
    ],
)
def test_times_keep_their_microseconds(date: float, seconds: int, nanos: int) -> None:
    assert timestamp(date) == Timestamp(seconds=seconds, nanos=nanos)
    assert seconds_of_timestamp(timestamp(date), "t", Checks()) == pytest.approx(date, abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        (253_402_300_800, 0),
        (-62_135_596_801, 0),
        (0, -1),
        (0, 1_000_000_000),
        (2**63 - 1, 2**31 - 1),
        (-(2**63), 0),
    ],
)
def test_a_time_out_of_range_is_a_violation(seconds: int, nanos: int) -> None:
    checks = Checks()
    assert seconds_of_timestamp(Timestamp(seconds=seconds, nanos=nanos), "t", checks) == 0
    assert list(violations(checks)) == ["t"]


@pytest.mark.parametrize(
    ("seconds", "nanos", "span"),
    [(0, 0, 0.0), (60, 500_000_000, 60.5), (-1, -500_000_000, -1.5), (315_576_000_000, 0, 315_576_000_000.0)],
)
def test_durations_become_seconds(seconds: int, nanos: int, span: float) -> None:
    assert seconds_of_duration(Duration(seconds=seconds, nanos=nanos), "d", Checks()) == span


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [
        (315_576_000_001, 0),
        (-315_576_000_001, 0),
        (1, -1),
        (-1, 1),
        (0, 1_000_000_000),
        (2**63 - 1, 0),
        (-(2**63), -1),
    ],
)
def test_a_span_out_of_range_is_a_violation(seconds: int, nanos: int) -> None:
    checks = Checks()
    assert seconds_of_duration(Duration(seconds=seconds, nanos=nanos), "d", checks) == 0
    assert list(violations(checks)) == ["d"]
