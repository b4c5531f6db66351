"""A replica moves by single steps or by a reset, and listeners are told every move."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.unit.core.node import sequences
from tests.unit.core.virtual_time import cancelled, settle, virtual_time
from token_service.core.revocation.replica import Replica
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget
from token_service.tokens.revocation_set import RevocationSet


def entry(sequence: int, target: RevocationTarget = RevocationTarget.SUBJECT, value: str = "") -> Revocation:
    return Revocation(sequence, target, value or f"subject-{sequence}", 1000.0, 9000.0)


def entries(first: int, last: int) -> list[Revocation]:
    return [entry(number) for number in range(first, last + 1)]


class Follower:
    """A listener that keeps the reported moves."""

    def __init__(self) -> None:
        self.moves: list[object] = []

    def applied(self, entries: Sequence[Revocation]) -> None:
        self.moves.append(sequences(entries))

    def was_reset(self) -> None:
        self.moves.append("reset")


def test_entries_are_applied_one_after_the_other():
    replica = Replica()
    replica.reset("epoch-one", 4)
    follower = Follower()
    replica.listen(follower)
    replica.apply(entries(5, 7))
    replica.apply([])
    replica.apply([entry(8)])
    assert replica.cursor == Cursor("epoch-one", 8)
    assert follower.moves == [[5, 6, 7], [8]]
    assert len(replica.revocations) == 4


@pytest.mark.parametrize("sequence", [4, 6])
def test_an_entry_that_does_not_follow_is_a_defect(sequence: int):
    replica = Replica()
    replica.reset("epoch-one", 4)
    with pytest.raises(ValueError, match=f"entry {sequence} does not follow 4"):
        replica.apply([entry(sequence)])
    assert replica.applied == 4


def test_a_reset_forgets_the_log_before_and_tells_so():
    replica = Replica()
    replica.reset("epoch-one", 0)
    replica.apply(entries(1, 3))
    follower = Follower()
    replica.listen(follower)
    version = replica.revocations.version
    replica.reset("epoch-two", 1)
    assert (replica.cursor, len(replica.revocations)) == (Cursor("epoch-two", 1), 0)
    assert replica.revocations.version != version
    assert follower.moves == ["reset"]


def test_reset_replaces_live_revocations_without_a_gap():
    replica = Replica()
    replica.reset("epoch-one", 0)
    replica.apply(entries(1, 3))
    fresh = RevocationSet()
    fresh.apply(entry(7))
    seen: list[int] = []

    class Looks(Follower):
        def was_reset(self) -> None:
            seen.append(len(replica.revocations))

    replica.listen(Looks())
    replica.reset("epoch-two", 7, fresh)
    assert seen == [1]
    assert replica.revocations is fresh


def test_skip_keeps_live_revocations_and_reports_a_reset():
    replica = Replica()
    replica.reset("epoch-one", 0)
    replica.apply(entries(1, 3))
    follower = Follower()
    replica.listen(follower)
    replica.skip(9)
    assert (replica.applied, len(replica.revocations)) == (9, 3)
    assert follower.moves == ["reset"]


@virtual_time
async def test_waiter_wakes_only_when_its_entry_is_applied():
    replica = Replica()
    replica.reset("epoch-one", 0)
    tasks = [
        asyncio.create_task(replica.wait_for(Cursor("epoch-one", sequence))) for sequence in (2, 1, 3, 2)
    ]
    await settle()
    replica.apply([entry(1)])
    await settle()
    assert [task.done() for task in tasks] == [False, True, False, False]
    replica.apply([entry(2)])
    await settle()
    assert [task.done() for task in tasks] == [True, True, False, True]
    replica.skip(5)
    await settle()
    assert all(task.done() for task in tasks)
    await replica.wait_for(Cursor("epoch-one", 5))
    await replica.wait_for(Cursor("epoch-old", 99))


@virtual_time
async def test_cancelled_waiter_does_not_block_other_waiters():
    replica = Replica()
    replica.reset("epoch-one", 0)
    leaving, staying = (asyncio.create_task(replica.wait_for(Cursor("epoch-one", n))) for n in (1, 2))
    await settle()
    await cancelled(leaving)
    replica.apply(entries(1, 2))
    await staying
    forgotten = asyncio.create_task(replica.wait_for(Cursor("epoch-one", 99)))
    await settle()
    await cancelled(forgotten)
    replica.apply([entry(3)])
    assert not replica._waiters


@virtual_time
@pytest.mark.parametrize("epoch", ["epoch-one", "epoch-two"])
async def test_reset_wakes_all_waiters(epoch: str):
    replica = Replica()
    replica.reset("epoch-one", 10)
    task = asyncio.create_task(replica.wait_for(Cursor("epoch-one", 12)))
    await settle()
    replica.reset(epoch, 3)
    async with asyncio.timeout(1):
        await task
