"""Numbers and times of the pages."""

from __future__ import annotations

import pytest

from token_service.web.console import formats


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"),
        (0, "0 ms"),
        (0.0854, "85 ms"),
        (0.9996, "1.0 s"),
        (4.21, "4.2 s"),
        (42.4, "42 s"),
        (90, "1.5 min"),
        (720, "12 min"),
        (5400, "1.5 h"),
        (86_400, "1.0 d"),
        (90 * 86_400, "90 d"),
        (-3, "-3.0 s"),
    ],
)
def test_duration_has_two_or_three_digits(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "—"), (0, "0"), (1234567, "1,234,567"), (0.1234, "0.123"), (12.34, "12.3")]
)
def test_amount_has_three_digits_at_least(value: float | None, text: str) -> None:
    assert formats.amount(value) == text


def test_times_are_in_utc_and_escaped() -> None:
    assert formats.moment(1_000_000_000) == (
        '<time datetime="2001-09-09T01:46:40+00:00">2001-09-09 01:46:40 UTC</time>'
    )
    assert ">12 min ago<" in formats.relative(1_000_000_000, 1_000_000_720)
    assert ">in 1.0 d<" in formats.relative(1_000_086_400, 1_000_000_000)
    assert formats.moment(1e300) == formats.moment(None) == formats.relative(None, 0) == "—"


def test_message_becomes_a_sentence() -> None:
    assert formats.sentence("the session has ended") == "The session has ended."
    assert formats.sentence("iss: is missing") == "iss: is missing."
    assert formats.sentence("Try again!") == "Try again!"
    assert formats.plural(1, "node") == "1 node"
    assert formats.plural(2000, "node") == "2,000 nodes"
