"""`Waits`: the end of a wait, with its counts or error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, raising
from tests.unit.core.subscribers.members import Cluster, Member, at, counts
from tests.unit.core.virtual_time import LoopClock, cancelled, settle, virtual_time
from token_service.core.subscribers.waits import Waits
from token_service.errors import StoreUnavailableError


@virtual_time
async def test_wait_without_subscribers_ends_at_once():
    async with Cluster() as (one, _):
        began = asyncio.get_running_loop().time()
        assert await one.waits.wait_applied(at(5), 60) == (0, 0)
        assert asyncio.get_running_loop().time() == began


@virtual_time
async def test_a_wait_ends_with_the_last_confirmation():
    async with Cluster(1) as (node,):
        for number in range(3):
            node.subscribers.connect(f"v-{number}")
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(node.waits.wait_applied(at(5), 60))
        for number in range(3):
            await asyncio.sleep(1)
            assert not waiting.done()
            node.subscribers.confirm(f"v-{number}", 5 + number)
        last = loop.time()
        assert await waiting == (3, 3)
        assert loop.time() == last  # at once, not at the next look


@virtual_time
async def test_wait_ends_when_the_last_unconfirmed_subscriber_disconnects():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        node.subscribers.connect("b")
        node.subscribers.confirm("a", 5)
        waiting = asyncio.create_task(node.waits.wait_applied(at(5), 60))
        await asyncio.sleep(1)
        node.subscribers.disconnect("b")
        assert await waiting == (1, 1)


@virtual_time
async def test_timed_out_wait_returns_the_counts_of_that_moment():
    async with Cluster(1) as (node,):
        for name in ("a", "b", "c"):
            node.subscribers.connect(name)
        node.subscribers.confirm("a", 5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.create_task(node.waits.wait_applied(at(5), 2.5))
        await asyncio.sleep(2.4)
        node.subscribers.confirm("b", 5)
        assert await waiting == (3, 2)
        assert loop.time() == pytest.approx(began + 2.5)


@virtual_time
async def test_a_wait_fails_with_the_store():
    cluster = Cluster(1)
    async with cluster as (node,):
        node.subscribers.connect("a")
        cluster.reports[0].before["reports"] = raising(StoreUnavailableError())
        with pytest.raises(StoreUnavailableError):
            await node.waits.wait_applied(at(5), 1)


@virtual_time
async def test_cancelled_wait_leaves_the_others_waiting():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        leaving = asyncio.create_task(node.waits.wait_applied(at(5), 60))
        staying = asyncio.create_task(node.waits.wait_applied(at(6), 60))
        await asyncio.sleep(1)
        await cancelled(leaving)
        node.subscribers.confirm("a", 6)
        assert await staying == (1, 1)


@virtual_time
async def test_listeners_are_told_each_higher_requested_sequence():
    async with Cluster(1) as (node,):
        heard: list[int] = []
        node.subscribers.on_request(lambda: heard.append(node.subscribers.requested))
        node.subscribers.connect("a")
        for sequence in (5, 3, 5, 8):
            await counts(node, sequence)
        assert heard == [5, 8]


@virtual_time
async def test_read_that_began_before_a_wait_does_not_answer_it():
    """The read may miss subscribers that were connected when the wait began."""
    clock = LoopClock()
    stores = MemoryStores(clock)
    reports = Intercepted(stores.nodes)
    one, two = Member("one", reports, clock), Member("two", stores.nodes, clock)

    async def slowly() -> None:
        await asyncio.sleep(0.5)

    reports.after["reports"] = slowly
    early = asyncio.create_task(one.waits.wait_applied(at(5), 10))
    await asyncio.sleep(0.1)
    two.subscribers.connect("v")
    await two.reports.write()
    late = asyncio.create_task(one.waits.wait_applied(at(5), 3))
    assert await early == (0, 0)
    assert not late.done()
    assert await late == (1, 0)


@virtual_time
@pytest.mark.parametrize("call", ["reports", "request"])
async def test_waits_fail_with_the_store_and_later_ones_succeed(call: str):
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    node = Member("one", reports, clock)
    node.subscribers.connect("v")
    fail: Callable[[], object] = raising(StoreUnavailableError())
    waiting = [asyncio.create_task(node.waits.wait_applied(at(sequence), 10)) for sequence in (5, 6)]
    if call == "reports":
        await asyncio.sleep(1)
    reports.before[call] = fail  # type: ignore[assignment]
    began = clock.monotonic()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 2
    assert clock.monotonic() <= began + 0.3  # at the next read, not when the waits time out
    del reports.before[call]
    node.subscribers.confirm("v", 7)
    assert await node.waits.wait_applied(at(7), 10) == (1, 1)
    await settle()


@virtual_time
async def test_wait_shorter_than_a_read_returns_the_counts_of_all_nodes():
    """The counts of this node alone would show every subscriber as confirmed."""
    clock = LoopClock()
    stores = MemoryStores(clock)
    reports = Intercepted(stores.nodes)
    one, two = Member("one", reports, clock), Member("two", stores.nodes, clock)
    one.subscribers.connect("a")
    one.subscribers.confirm("a", 5)
    for name in ("b", "c"):
        two.subscribers.connect(name)
    await two.reports.write()

    async def slowly() -> None:
        await asyncio.sleep(0.5)

    reports.before["reports"] = slowly
    assert await one.waits.wait_applied(at(5), 0.1) == (3, 1)
    # A recent read for another wait is not enough either.
    two.subscribers.connect("d")
    await two.reports.write()
    assert await one.waits.wait_applied(at(5), 0.1) == (4, 1)


@virtual_time
async def test_wait_shorter_than_a_read_fails_with_it():
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    node = Member("one", reports, clock)

    async def slowly() -> None:
        await asyncio.sleep(12)
        raise StoreUnavailableError

    reports.before["reports"] = slowly
    results = await asyncio.gather(
        *(node.waits.wait_applied(at(5), wait) for wait in (1, 30)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreUnavailableError] * 2


@virtual_time
async def test_timer_that_fires_early_does_not_spin(monkeypatch: pytest.MonkeyPatch):
    """A loop runs timers that are due within its resolution, and no time passes here while a task can run."""
    clock = LoopClock()
    asked = 0

    def paced(waits: Waits, now: float) -> float:
        nonlocal asked
        asked += 1
        if asked > 100:
            waits._looked = float("-inf")  # end of the early timers
        return 0.05

    monkeypatch.setattr(Waits, "_interval", paced)
    nodes = [Member(name, MemoryStores(clock).nodes, clock) for name in "abcdefgh"]
    waiting = []
    for node in nodes:
        node.waits._looked = 1e-9 - 0.05
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(node.waits.wait_applied(at(1), 20)))
    assert await asyncio.gather(*waiting) == [(0, 0)] * 8
    assert asked < 100


@virtual_time
async def test_unexpected_error_of_a_read_reaches_the_waits():
    clock = LoopClock()
    reports = Intercepted(MemoryStores(clock).nodes)
    reports.before["reports"] = raising(LookupError())
    node = Member("one", reports, clock)
    results = await asyncio.gather(
        *(node.waits.wait_applied(at(5), wait) for wait in (0, 30)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError] * 2


@virtual_time
async def test_timed_out_waits_are_forgotten_while_others_wait():
    clock = LoopClock()
    node = Member("one", MemoryStores(clock).nodes, clock)
    node.subscribers.connect("deaf")
    patient = asyncio.create_task(node.waits.wait_applied(at(5), 60))
    for number in range(150):
        await asyncio.gather(*(node.waits.wait_applied(at(5 + number), 0.02) for _ in range(2)))
    assert len(node.waits._waits) < 10
    node.subscribers.confirm("deaf", 5)
    assert await patient == (1, 1)


@virtual_time
async def test_wait_does_not_count_confirmations_of_the_next_log():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        waiting = asyncio.create_task(node.waits.wait_applied(at(5), 3))
        await asyncio.sleep(1)
        node.subscribers.start_over("log2")
        node.subscribers.confirm("a", 9)
        assert await waiting == (1, 0)


@virtual_time
async def test_wait_for_the_next_log_asks_once_the_node_follows_it():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        node.subscribers.confirm("a", 9)
        waiting = asyncio.create_task(node.waits.wait_applied(at(5, "log2"), 10))
        await asyncio.sleep(1)
        assert (node.subscribers.requested, waiting.done()) == (0, False)
        node.subscribers.start_over("log2")
        await asyncio.sleep(0.3)
        assert (node.subscribers.requested, waiting.done()) == (5, False)
        node.subscribers.confirm("a", 5)
        assert await waiting == (1, 1)


@virtual_time
async def test_new_wait_is_answered_soon_while_an_older_one_reads_slowly():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        node.subscribers.confirm("a", 5)
        older = asyncio.create_task(node.waits.wait_applied(at(9), 8))
        await asyncio.sleep(5)  # the reads are 0.25 s apart by now
        loop = asyncio.get_running_loop()
        for _ in range(10):
            await asyncio.sleep(0.26)
            began = loop.time()
            assert await node.waits.wait_applied(at(5), 5) == (1, 1)
            assert loop.time() <= began + 0.051
        await cancelled(older)
