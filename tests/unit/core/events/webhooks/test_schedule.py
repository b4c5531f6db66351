"""The times of attempts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from token_service.core.events.webhooks.schedule import RetryRules, retry_after_seconds

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def test_pauses_grow_threefold_and_fill_the_span() -> None:
    rules = RetryRules()
    pauses = [rules.pause(failed, 0, bytes) for failed in range(1, 8)]
    assert sum(pauses) == pytest.approx(3600)
    assert all(after == pytest.approx(3 * before) for before, after in pairwise(pauses))
    assert 3 < pauses[0] < 4


def test_jitter_shortens_a_pause_by_at_most_a_fifth() -> None:
    rules = RetryRules(attempts=2, span=100)
    assert rules.pause(1, 0, lambda size: b"\xff" * size) == pytest.approx(80)
    assert rules.pause(1, 0, lambda size: b"\x80" * size) == pytest.approx(90, abs=0.1)


@pytest.mark.parametrize(("asked", "pause"), [(0, 25), (20, 25), (40, 40), (9999, 100)])
def test_receiver_prolongs_a_pause_within_the_span(asked: float, pause: float) -> None:
    assert RetryRules(attempts=3, span=100).pause(1, asked, bytes) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0),
        ("", 0),
        ("-5", 0),
        ("soon", 0),
        ("9" * 400, 999_999_999),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float) -> None:
    assert retry_after_seconds(header, NOW) == seconds
