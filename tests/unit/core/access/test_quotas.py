"""Quotas limit what one caller takes of a shared resource, and keep no record of idle callers."""

from __future__ import annotations

import pytest

from tests.support.manual_clock import ManualClock
from token_service.core.access import quotas
from token_service.core.access.quotas import Quota, RateQuota
from token_service.errors import OverloadedError


def test_caller_is_refused_at_its_limit_and_others_are_not() -> None:
    quota = Quota("calls", 2, retry_after=0.5)
    quota.take("a")
    quota.take("a")
    with pytest.raises(OverloadedError) as refused:
        quota.take("a")
    assert refused.value.retry_after == 0.5
    assert refused.value.metadata == {"quota": "calls", "limit": "2"}
    assert refused.value.message == "the caller has reached its limit of calls: 2"
    quota.take("b")
    assert (quota.held("a"), quota.held("b"), quota.refused) == (2, 1, 1)


def test_returned_amount_can_be_taken_again() -> None:
    quota = Quota("bytes", 100, retry_after=1)
    quota.take("a", 60)
    with pytest.raises(OverloadedError):
        quota.take("a", 41)
    quota.give_back("a", 60)
    quota.take("a", 100)
    assert quota.held("a") == 100


def test_block_gives_back_however_it_ends() -> None:
    quota = Quota("calls", 1, retry_after=1)
    with quota.holding("a"):
        assert quota.held("a") == 1
    assert quota.held("a") == 0
    with pytest.raises(KeyError), quota.holding("a"):
        raise KeyError
    assert quota.held("a") == 0


def test_quota_keeps_nothing_of_callers_that_hold_nothing() -> None:
    quota = Quota("calls", 1, retry_after=1)
    for number in range(10_000):
        quota.take(number)
        quota.give_back(number)
    assert not quota._held


def test_rate_allows_the_limit_at_once_and_refills_over_the_period() -> None:
    clock = ManualClock()
    rate = RateQuota("revocations per minute", 6, 60, clock.elapsed)
    for _ in range(6):
        rate.spend("a")
    with pytest.raises(OverloadedError) as refused:
        rate.spend("a")
    assert refused.value.retry_after == pytest.approx(10)
    assert rate.refused == 1
    rate.spend("b")
    clock.advance(10)
    rate.spend("a")
    with pytest.raises(OverloadedError):
        rate.spend("a")
    clock.advance(60)
    rate.spend("a", 6)


def test_refused_spending_costs_nothing() -> None:
    clock = ManualClock()
    rate = RateQuota("r", 10, 10, clock.elapsed)
    with pytest.raises(OverloadedError):
        rate.spend("a", 11)
    rate.spend("a", 10)


def test_rate_quota_forgets_callers_that_spent_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "_MAX_CALLERS", 10)
    clock = ManualClock()
    rate = RateQuota("r", 5, 60, clock.elapsed)
    rate.spend("heavy", 5)
    for number in range(1000):
        rate.spend(number)
        assert len(rate) <= 10
    with pytest.raises(OverloadedError):
        rate.spend("heavy")
    clock.advance(61)
    for number in range(10):
        rate.spend(number)
    rate.spend("heavy", 5)
