from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from token_service.tokens.revocation import Cursor


@given(st.from_regex(r"[A-Za-z0-9_-]{8,32}", fullmatch=True), st.integers(0, 10**19 - 1))
def test_cursor_round_trips(epoch: str, sequence: int) -> None:
    assert Cursor.parse(str(Cursor(epoch, sequence))) == Cursor(epoch, sequence)


@given(st.text(max_size=60))
def test_parse_accepts_only_canonical_cursor_text(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        return
    assert str(cursor) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abcdefgh",
        "abcdefgh:",
        "abcdefgh:01",
        "abcdefgh:-1",
        "abcdefgh:+1",
        "short:1",
        "abcdefgh:1\n",
        "abcdefgh:٣",
    ],
)
def test_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        Cursor.parse(text)
