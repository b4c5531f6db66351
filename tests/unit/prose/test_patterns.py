"""The words and constructs that the check of prose finds, and their neighbors that pass."""

from __future__ import annotations

import pytest

from tests.prose.patterns import find


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Whoever calls this waits.", "whoever"),
        ("Blocks for whatever that takes.", "whatever"),
        ("the lock that nobody holds", "nobody"),
        ("Somebody else has it", "somebody"),
        ("if anybody asks", "anybody"),
        ("everybody waits", "everybody"),
        ("the module is begun anew", "anew"),
        ("rejected by the word of the service", "by the word of"),
        ("Says what is missing.", "what is"),
        ("What was read before.", "what is"),
        ("take what comes", "what is"),
        ("That which is older wins.", "that which"),
        ("those who wait", "those who"),
        ("as many as there are", "as many as"),
        ("Of those who wait, some leave.", "of those"),
        ("the newest of those.", "of those"),
        ("a proof that was there", "is there"),
        ("Whether it is there, stopped or not.", "is there"),
        ("it is they who wait", "it is they who"),
        ("Hence the lock.", "hence"),
    ],
)
def test_riddle_is_found_where_it_stands(text: str, pattern: str) -> None:
    found = dict(find(text))
    assert pattern in found
    start = found[pattern]
    assert text[start : start + 2].lower() == pattern[:2] or pattern in {"what is", "is there"}


@pytest.mark.parametrize(
    "text",
    [
        "What is a session?",
        "What it is for",
        "Is there a newer key? Then read it.",
        "in whatever order the entries come",
        "two of those keys",
        "There is no such session.",
        "the user no-body",
        "as many keys as algorithms",
        "this node's keys are there-fore new",
    ],
)
def test_plain_text_passes(text: str) -> None:
    assert list(find(text)) == []
