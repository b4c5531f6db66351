"""The time that revocations take to reach all subscribers of a node."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.core.two_nodes import draft
from tests.unit.core.virtual_time import START, ManualClock
from token_service.core.revocation.propagation import MAX_MEASURED, Propagation
from token_service.core.revocation.replica import Replica
from token_service.core.subscribers.registry import Subscribers
from token_service.tokens.revocation import Revocation, RevocationTarget


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.replica = Replica()
        self.subscribers = Subscribers(self.clock)
        self.propagation = Propagation(self.replica, self.subscribers, self.clock)
        self.told: list[float] = []
        self.propagation.on_measured(self.told.append)
        self.replica.reset("log", 0)
        self.subscribers.start_over("log")

    def revoke(self, count: int = 1) -> None:
        first = self.replica.applied + 1
        self.replica.apply([entry(first + number, self.clock.now()) for number in range(count)])

    @property
    def measured(self) -> list[tuple[int, float]]:
        return [(each.sequence, each.seconds) for each in self.propagation.measured]


def entry(sequence: int, time: float) -> Revocation:
    made = draft("alice", time)
    return Revocation(
        sequence=sequence,
        target=RevocationTarget.SUBJECT,
        value=made.value,
        revoke_time=time,
        expire_time=made.expire_time,
    )


def test_revocation_is_measured_when_the_last_subscriber_confirms_it() -> None:
    scene = Scene()
    scene.subscribers.connect("a")
    scene.subscribers.connect("b")
    scene.revoke(2)
    scene.clock.elapsed = 0.25
    scene.subscribers.confirm("a", 2)
    assert scene.measured == []
    assert scene.propagation.behind_for == 0.25
    scene.clock.elapsed = 0.5
    scene.subscribers.confirm("b", 1)
    assert scene.measured == [(1, 0.5)]
    scene.clock.elapsed = 2.0
    scene.subscribers.confirm("b", 2)
    assert scene.measured == [(1, 0.5), (2, 2.0)]
    assert [each.revoke_time for each in scene.propagation.measured] == [START, START]
    assert scene.told == [0.5, 2.0]
    assert scene.propagation.behind_for == 0.0


def test_revocation_without_subscribers_is_not_measured() -> None:
    scene = Scene()
    scene.revoke()
    scene.clock.elapsed = 100
    scene.subscribers.connect("a")
    assert scene.propagation.behind_for == 0.0, "a new subscriber catches up with old entries first"
    scene.subscribers.confirm("a", 1)
    assert scene.measured == []
    scene.revoke()
    scene.subscribers.disconnect("a")
    scene.subscribers.connect("b")
    scene.subscribers.confirm("b", 2)
    assert scene.measured == []


def test_other_log_forgets_measurements() -> None:
    scene = Scene()
    scene.subscribers.connect("a")
    scene.revoke(2)
    scene.subscribers.confirm("a", 1)
    scene.replica.reset("log2", 5)
    scene.subscribers.start_over("log2")
    assert scene.measured == []
    assert scene.propagation.behind_for == 0.0
    scene.subscribers.confirm("a", 5)
    assert scene.measured == []


def test_measurements_are_bounded_to_the_last_ones() -> None:
    scene = Scene()
    scene.subscribers.connect("a")
    scene.revoke(MAX_MEASURED + 5)
    scene.subscribers.confirm("a", MAX_MEASURED + 5)
    assert [sequence for sequence, _ in scene.measured] == list(range(6, MAX_MEASURED + 6))


def test_clock_that_is_behind_gives_no_negative_time() -> None:
    scene = Scene()
    scene.subscribers.connect("a")
    scene.replica.apply([replace(entry(1, START), revoke_time=START + 5)])
    assert scene.propagation.behind_for == 0.0
    scene.subscribers.confirm("a", 1)
    assert scene.measured == [(1, 0.0)]
