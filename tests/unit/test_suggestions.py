"""Values as shown in messages."""

from __future__ import annotations

from typing import Any

import pytest

from token_service.suggestions import shown


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("word", "'word'"),
        ({"a": 1}, "{'a': 1}"),
        ("x" * 78, "'" + "x" * 78 + "'"),
        ("x" * 79, "'" + "x" * 79 + "…"),
        (1 << 20000, "<a huge int>"),
        (nested(100_000), "<a huge dict>"),
    ],
    ids=[
        "word",
        "table",
        "80 characters",
        "81 characters",
        "number of 6,021 digits",
        "100,000 nested tables",
    ],
)
def test_value_is_shown_in_at_most_a_line(value: object, text: str) -> None:
    assert shown(value) == text
