"""How far subscribers are behind the log."""

from __future__ import annotations

import pytest

from tests.unit.core.virtual_time import ManualClock
from token_service.core.subscribers.lag import Staleness, SubscriberLag
from token_service.core.subscribers.registry import Subscribers
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget


def entry(sequence: int) -> Revocation:
    return Revocation(sequence, RevocationTarget.SUBJECT, "alice", 0.0, 1e9, RevocationReason.LOGOUT)


class Scene:
    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        self.subscribers = Subscribers(self.clock)
        self.reached = 0
        self.confirmed: list[float] = []
        self.lag = SubscriberLag(self.subscribers, lambda: self.reached, self.clock)
        self.lag.on_confirmed(self.confirmed.append)
        for name in names:
            self.subscribers.connect(name)

    def arrive(self, *sequences: int) -> None:
        self.reached = sequences[-1]
        self.lag.applied([entry(each) for each in sequences])


def test_staleness_is_the_age_of_the_oldest_entry_not_confirmed() -> None:
    scene = Scene("a", "b")
    assert scene.lag.staleness() == Staleness()
    scene.arrive(1)
    scene.clock.elapsed += 4
    scene.arrive(2, 3)
    scene.clock.elapsed += 8
    scene.subscribers.confirm("a", 1)
    assert scene.lag.staleness() == Staleness(12.0, 12.0, 1)
    scene.subscribers.confirm("b", 2)
    assert scene.lag.staleness() == Staleness(8.0, 8.0, 0)
    scene.subscribers.confirm("a", 3)
    scene.subscribers.confirm("b", 3)
    assert scene.lag.staleness() == Staleness()


def test_p99_leaves_out_one_of_a_hundred() -> None:
    scene = Scene(*(f"s{number}" for number in range(200)))
    scene.arrive(1)
    scene.clock.elapsed += 20
    for number in range(199):
        scene.subscribers.confirm(f"s{number}", 1)
    assert scene.lag.staleness() == Staleness(20.0, 0.0, 1)


def test_time_until_the_last_subscriber_confirmed_is_told_once() -> None:
    scene = Scene("a", "b")
    scene.arrive(1)
    scene.clock.elapsed += 0.25
    scene.subscribers.confirm("a", 1)
    assert scene.confirmed == []
    scene.clock.elapsed += 0.25
    scene.subscribers.confirm("b", 1)
    scene.subscribers.confirm("b", 1)
    assert scene.confirmed == [pytest.approx(0.5)]


def test_entries_without_subscribers_and_before_a_reset_are_not_counted() -> None:
    scene = Scene()
    scene.arrive(1)
    scene.subscribers.connect("a")
    scene.lag.was_reset()
    scene.subscribers.confirm("a", 1)
    assert scene.confirmed == []
    assert scene.lag.staleness() == Staleness()


def test_marks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("token_service.core.subscribers.lag._MAX_MARKS", 10)
    scene = Scene("a")
    for sequence in range(1, 31):
        scene.arrive(sequence)
        scene.clock.elapsed += 1
    assert len(scene.lag._marks) == 10
    assert scene.lag.staleness().highest == 30.0
