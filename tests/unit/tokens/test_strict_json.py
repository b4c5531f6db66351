from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from token_service.tokens.strict_json import MAX_DEPTH, decode_object, encode, require_depth

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)


@given(value=st.dictionaries(st.text(), _VALUES, max_size=6), spaced=st.booleans())
def test_well_formed_objects_decode_as_by_the_standard_parser(value: dict[str, Any], *, spaced: bool) -> None:
    text = json.dumps(value, ensure_ascii=spaced, separators=(", ", " : ") if spaced else (",", ":"))
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return
    try:
        decoded = decode_object(data)
    except ValueError:
        lone_surrogate = any("\ud800" <= c <= "\udfff" for c in json.dumps(value, ensure_ascii=False))
        assert lone_surrogate
    else:
        assert decoded == value == json.loads(data)


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]":,\\u0019aeE.-+ntf \ud83d', max_size=40).map(
        lambda t: t.encode("utf-8", "replace")
    )
)
@example(b"{}")
@example(b'{"a":1e400}')
@example(b'{"a":-0}')
def test_accepted_input_decodes_as_by_the_standard_parser(data: bytes) -> None:
    try:
        value = decode_object(data)
    except ValueError:
        return
    assert value == json.loads(data.decode("utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{",
        b"{} ,",
        b"{}{}",
        b"{}\x00",
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":"\n"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xff"}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"o":{"a":1,"a":2}}',
        b'{"l":[{"a":1,"a":2}]}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32-be"),
        b"/**/{}",
        b'{"a":1}//',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
    ids=range(36),
)
def test_input_that_is_not_one_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode_object(data)


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 1, MAX_DEPTH])
def test_nesting_deeper_than_the_limit_is_refused(depth: int) -> None:
    value: Any = 1
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    data = encode({"a": value})
    assert decode_object(data) == {"a": value}
    if depth == MAX_DEPTH:
        with pytest.raises(ValueError, match="deeper"):
            decode_object(encode({"a": {"a": value}}))
        with pytest.raises(ValueError, match="deeper"):
            decode_object(b' {"a": [' + encode(value) + b"]}")


def test_many_shallow_containers_do_not_count_as_depth() -> None:
    value: dict[str, list[list[int]]] = {"a": [[] for _ in range(500)]}
    assert decode_object(encode(value)) == value


def test_require_depth_counts_containers() -> None:
    require_depth(1, 0)
    require_depth([], 1)
    with pytest.raises(ValueError, match="deeper than 0"):
        require_depth([], 0)
