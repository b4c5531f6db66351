from __future__ import annotations

import pytest

from token_service.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0ms", 0.0),
        ("20ms", 0.02),
        ("1500ms", 1.5),
        ("90", 90.0),
        ("2.5", 2.5),
        ("0.25s", 0.25),
        ("1.5m", 90.0),
        ("0.001s", 0.001),
        ("90s", 90.0),
        ("15m", 900.0),
        ("8h", 28_800.0),
        ("007d", 604_800.0),
        ("999999999", 999_999_999.0),
    ],
)
def test_a_number_and_a_unit_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "s",
            "1.2345s",
            "0.5ms",
            ".5s",
            "5.",
            "1e3",
            "-1s",
            "+1s",
            "1w",
            "1S",
            "5 m",
            " 5m",
            "5m\n",
            "1m30s",
            "1ss",
        ),
        *("٣m", "nan", "inf", "1_000", "9" * 10, "9" * 5000),
    ],
)
def test_any_other_text_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^not a number with the unit ms, s, m, h or d$|^not a whole number of milliseconds$",
    ):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.02, "20ms"), (1.5, "1500ms"), (60, "1m"), (90, "90s"), (7200, "2h"), (7 * 86400, "7d")],
)
def test_a_duration_is_shown_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
    assert parse_duration(text) == seconds
