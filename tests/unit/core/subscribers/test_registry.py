"""`Subscribers`: connections, confirmations and silence at one node."""

from __future__ import annotations

from tests.support.memory_stores import MemoryStores
from tests.unit.core.subscribers.members import Cluster, Member, at
from tests.unit.core.virtual_time import LoopClock, virtual_time


@virtual_time
async def test_counts_connected_and_confirmed_subscribers():
    async with Cluster(1) as (node,):
        assert node.subscribers.counts(5) == (0, 0)
        for name in ("a", "b", "c"):
            node.subscribers.connect(name)
        node.subscribers.confirm("a", 5)
        node.subscribers.confirm("b", 4)
        node.subscribers.confirm("b", 6)
        node.subscribers.confirm("c", 4)
        assert node.subscribers.counts(5) == (3, 2)
        node.subscribers.confirm("a", 3)  # late, for an earlier entry
        assert node.subscribers.counts(5) == (3, 2)
        node.subscribers.disconnect("b")
        assert node.subscribers.counts(5) == (2, 1)


@virtual_time
async def test_subscriber_with_several_streams_counts_once():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        node.subscribers.confirm("a", 5)
        node.subscribers.connect("a")  # the new stream, before the old one is known to have ended
        assert node.subscribers.counts(5) == (1, 1)
        node.subscribers.disconnect("a")
        assert node.subscribers.counts(5) == (1, 1)
        node.subscribers.disconnect("a")
        assert node.subscribers.counts(5) == (0, 0)
        node.subscribers.connect("a")  # restarted: its confirmations from before the restart do not count
        assert node.subscribers.counts(5) == (1, 0)


@virtual_time
async def test_confirmations_of_unknown_subscribers_are_bounded():
    async with Cluster() as (one, _):
        for number in range(10_000):
            one.subscribers.confirm(f"ghost-{number}", 5)
        assert len(one.subscribers._foreign) == 4096
        one.subscribers.confirm("ghost-0", 6)
        assert one.subscribers._foreign["ghost-0"][0] == 6


@virtual_time
async def test_another_log_ends_silence():
    clock = LoopClock()
    node = Member("one", MemoryStores(clock).nodes, clock)
    node.subscribers.connect("deaf")
    await node.waits.wait_applied(at(5), 11)
    assert node.reports.silent == 1
    node.subscribers.start_over("log2")
    assert (node.reports.silent, node.subscribers.counts(0)) == (0, (1, 1))


@virtual_time
async def test_new_subscriber_is_not_silent_for_earlier_requests():
    clock = LoopClock()
    node = Member("one", MemoryStores(clock).nodes, clock)
    node.subscribers.connect("deaf")
    assert await node.waits.wait_applied(at(5), 11) == (0, 0)
    assert node.reports.silent == 1
    node.subscribers.connect("new")
    assert await node.waits.wait_applied(at(5), 1) == (1, 0)
    node.subscribers.confirm("new", 5)
    assert await node.waits.wait_applied(at(5), 1) == (1, 1)
    node.subscribers.disconnect("deaf")
    assert node.reports.silent == 0
    assert node.subscribers.counts(5) == (1, 1)
