from __future__ import annotations

import random
from itertools import combinations

from tests.faults.campaign.faults import Fault
from tests.faults.campaign.schedule import Schedule


async def nothing() -> None:
    return None


def faults() -> list[Fault]:
    return [
        Fault(f"kind {kind}", place, nothing, nothing, frozenset({place}))
        for kind in range(7)
        for place in ("node0", "node1", "redis")
    ]


def test_same_seed_gives_the_same_faults() -> None:
    one, other = (Schedule(faults(), random.Random(5), 2.0) for _ in range(2))
    for _ in range(50):
        assert [(each.fault.kind, each.fault.target, each.after, each.lasts) for each in one.next()] == [
            (each.fault.kind, each.fault.target, each.after, each.lasts) for each in other.next()
        ]


def test_faults_of_one_round_touch_different_targets_and_every_kind_occurs() -> None:
    schedule = Schedule(faults(), random.Random(1), 2.0)
    rounds = [schedule.next() for _ in range(40)]
    assert any(len(planned) > 1 for planned in rounds)
    for planned in rounds:
        for one, other in combinations(planned, 2):
            assert not one.fault.touches & other.fault.touches
    dealt = [each.fault.kind for planned in rounds for each in planned]
    assert set(dealt[:7]) == {f"kind {kind}" for kind in range(7)}


def test_fault_with_its_own_length_lasts_that_long() -> None:
    long = Fault("long", "redis", nothing, nothing, frozenset({"redis"}), lasts=(7.0, 8.0))
    for kinds in ([], ["long"]):
        (planned,) = Schedule([long], random.Random(1), 2.0, kinds).next()
        assert 7.0 <= planned.lasts <= 8.0


def test_only_chosen_kinds_occur_and_last_longer_than_s() -> None:
    schedule = Schedule(faults(), random.Random(1), 2.0, ["kind 3"])
    for _ in range(10):
        (planned,) = schedule.next()
        assert planned.fault.kind == "kind 3"
        assert planned.lasts > 2.0
