from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given, strategies

from token_service.gateway.identity import header_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("alice", "alice"),
        ("a b", "a b"),
        ("", ""),
        ("cn=alice,ou=people", "cn=alice,ou=people"),
        ("100%", "100%25"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin: 1"),
        ("\u00e4\u4e16", "%C3%A4%E4%B8%96"),
        (" a ", "%20a%20"),
        ("  ", "%20%20"),
        ("\x00\x7f", "%00%7F"),
    ],
)
def test_values_that_a_header_can_carry(text: str, value: str) -> None:
    assert header_value(text) == value


@given(strategies.text())
def test_every_text_is_one_header_value_and_can_be_read_back(text: str) -> None:
    value = header_value(text)
    assert value.isascii()
    assert all(" " <= character <= "~" for character in value)
    assert value == value.strip(" ")
    assert unquote(value) == text.encode("utf-8", "replace").decode()
