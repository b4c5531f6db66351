"""Counts in bounded memory."""

from __future__ import annotations

from hypothesis import given, strategies as st

from token_service.core.reports.trail.counting import Counts, Distinct, Latest


def test_rows_have_the_highest_sums_first_and_equal_ones_by_key() -> None:
    counts = Counts(2)
    for key, column, amount in (("b", 0, 1), ("a", 1, 1), ("c", 0, 1), ("c", 1, 4)):
        counts.add((key,), column, amount)
    assert counts.rows() == [("c", 1, 4), ("a", 0, 1), ("b", 1, 0)]
    assert counts.rows(by_first=True) == [("b", 1, 0), ("c", 1, 4), ("a", 0, 1)]
    assert counts.other is None


def test_keys_beyond_the_limit_are_counted_together() -> None:
    counts = Counts(1, limit=2)
    for key in ("a", "b", "c", "d", "a", "c"):
        counts.add((key,))
    assert counts.rows() == [("a", 2), ("b", 1)]
    assert counts.other == [3]
    assert counts.totals() == [6]


@given(
    st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=1), st.integers(1, 9)), max_size=40),
    st.integers(1, 8),
)
def test_totals_do_not_depend_on_the_limit(additions: list[tuple[str, int]], limit: int) -> None:
    counts = Counts(1, limit)
    for key, amount in additions:
        counts.add((key,), 0, amount)
    assert counts.totals() == [sum(amount for _, amount in additions)]
    assert len(counts.rows()) <= limit


@given(st.permutations(range(12)), st.integers(1, 12))
def test_latest_are_the_same_in_every_order(order: list[int], limit: int) -> None:
    latest = Latest(limit)
    for number in order:
        latest.add((number,), (f"event {number}",))
    assert latest.rows() == [(f"event {number}",) for number in range(12 - limit, 12)]
    assert latest.dropped == 12 - limit


def test_distinct_is_exact_up_to_its_limit_and_close_beyond() -> None:
    small, large = Distinct(1000), Distinct(1000)
    for number in range(1000):
        small.add(f"session {number}")
        small.add(f"session {number}")
    assert (small.count(), small.is_exact) == (1000, True)
    for number in [*range(20_000), *range(20_000)]:
        large.add(f"session {number}")
    assert not large.is_exact
    assert abs(large.count() - 20_000) < 0.1 * 20_000


def test_estimate_does_not_depend_on_the_order() -> None:
    one, other = Distinct(50), Distinct(50)
    for number in range(500):
        one.add(str(number))
        other.add(str(499 - number))
    assert one.count() == other.count() > 300
