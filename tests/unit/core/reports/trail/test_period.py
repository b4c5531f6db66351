"""Time ranges of reports."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from token_service.core.reports.trail.collector import Series
from token_service.core.reports.trail.period import MAX_INTERVALS, Period, time_text

DAY = 86_400.0
NOON = 1_796_040_000.0  # 2026-11-30T12:00:00Z


def test_interval_is_an_hour_up_to_three_days_and_a_day_beyond() -> None:
    assert Period.of(NOON, NOON + 3 * DAY).by == "hour"
    assert Period.of(NOON, NOON + 3 * DAY + 1).by == "day"
    assert Period.of(NOON, NOON + DAY, "day").by == "day"


def test_intervals_are_those_of_utc() -> None:
    period = Period.of(NOON, NOON + 1.5 * DAY, "day")
    assert list(period.starts()) == ["2026-11-30", "2026-12-01"]
    series = Series(period, [("issued", "Issued")])
    midnight = round((NOON + DAY / 2) * 1_000_000)
    for time, amount in ((period.start, 1), (midnight - 1, 2), (midnight, 4), (period.end - 1, 8)):
        series.add(time, 0, amount)
    assert series.table("Events").rows == [("2026-11-30", 3), ("2026-12-01", 12)]
    assert series.peak(0) == ("2026-12-01", 12)
    assert list(Period.of(NOON + 1800, NOON + 3601).starts()) == [
        "2026-11-30T12:00:00Z",
        "2026-11-30T13:00:00Z",
    ]


@pytest.mark.parametrize(
    ("start", "end", "by", "problem"),
    [
        (NOON, NOON, None, "ends at 2026-11-30T12:00:00Z, which is not after its start 2026-11-30T12:00:00Z"),
        (NOON, NOON - 1, None, "is not after"),
        (-1.0, NOON, None, "is not between the years 1970 and 9999"),
        (NOON, 1e15, None, "is not between the years 1970 and 9999"),
        (NOON, NOON + (MAX_INTERVALS / 24 + 1) * DAY, "hour", "choose days, or a shorter range"),
        (0.0, (MAX_INTERVALS + 1) * DAY, "day", "choose a shorter range"),
    ],
)
def test_unusable_range_is_refused_with_the_reason(
    start: float, end: float, by: str | None, problem: str
) -> None:
    with pytest.raises(ValueError) as refused:
        Period.of(start, end, by)
    assert problem in str(refused.value)


@given(st.integers(0, 10**9), st.integers(1, 30 * 86_400), st.sampled_from(["hour", "day"]))
def test_days_cover_the_range_without_overlap(start: int, length: int, by: str) -> None:
    period = Period.of(start, start + length, by)
    parts = list(period.days())
    assert (parts[0][0], parts[-1][1]) == (period.start, period.end)
    assert all(end == following for (_, end), (following, _) in itertools.pairwise(parts))
    assert len(list(period.starts())) == period.intervals


def test_time_has_a_fraction_only_if_it_needs_one() -> None:
    assert time_text(round(NOON * 1_000_000)) == "2026-11-30T12:00:00Z"
    assert time_text(round(NOON * 1_000_000) + 5) == "2026-11-30T12:00:00.000005Z"
