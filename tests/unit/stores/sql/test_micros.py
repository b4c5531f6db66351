from __future__ import annotations

from hypothesis import given, strategies as st

from token_service.stores.sql.micros import to_micros, to_seconds


@given(st.integers(0, 2**32 * 1_000_000))  # until the year 2106
def test_microseconds_round_trip_until_2106(micros):
    assert to_micros(to_seconds(micros)) == micros


@given(st.floats(0, 2**32))
def test_time_is_kept_to_the_microsecond(seconds):
    assert abs(to_seconds(to_micros(seconds)) - seconds) <= 0.000001


def test_none_stays_none():
    assert to_micros(None) is None
    assert to_seconds(None) is None
