"""`Reports` of nodes never overstate the confirmations of their subscribers."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import raising
from tests.unit.core.subscribers.members import LOG, Cluster, Member, at, counts
from tests.unit.core.virtual_time import LoopClock, VirtualTimeLoop, cancelled, virtual_time
from token_service.core.subscribers.node_store import NodeReport
from token_service.core.subscribers.registry import MAX_FOREIGN_PER_CALLER
from token_service.core.subscribers.reports import _pairs
from token_service.errors import StoreUnavailableError


@virtual_time
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("apart", [0.0, 0.01, 0.3, 2.1, 9.0])
async def test_confirmations_for_another_log_do_not_count(first: int, apart: float):
    """Nodes change over at different times, and old reports are read meanwhile."""
    async with Cluster() as (one, two):
        one.subscribers.connect("a")
        two.subscribers.connect("b")
        one.subscribers.confirm("a", 50, 7)
        two.subscribers.confirm("a", 60)
        two.subscribers.confirm("b", 60, 7)
        assert await counts(one, 70, 0.5) == (2, 0)
        assert await counts(one, 60, 0.5) == (2, 2)
        assert await one.reports.key_revision_of_all() == (2, 7)
        nodes = [one, two] if first == 0 else [two, one]
        nodes[0].subscribers.start_over("log2")
        until = asyncio.get_running_loop().time() + apart
        while asyncio.get_running_loop().time() < until:
            if first == 0:
                two.subscribers.confirm("a", 61)
            await asyncio.sleep(0.01)
            await nodes[0].reports.read()
            assert nodes[0].reports.counts(at(1, "log2")) == (2, 0)
            assert nodes[0].reports.reached == 0
            assert await nodes[0].reports.key_revision_of_all() == (2, 0)
        nodes[1].subscribers.start_over("log2")
        for _ in range(30):
            await asyncio.sleep(0.1)
            for node in nodes:
                await node.reports.read()
                assert node.subscribers.counts(1) == (1, 0)
                assert node.reports.counts(at(1, "log2")) == (2, 0)
                assert await node.reports.key_revision_of_all() == (2, 0)
        two.subscribers.confirm("a", 3)
        two.subscribers.confirm("b", 3)
        for node in nodes:
            assert await node.waits.wait_applied(at(3, "log2"), 5) == (2, 2)


@virtual_time
@pytest.mark.parametrize(("followed", "known"), [(LOG, 7), ("log2", 0), ("", 7)])
async def test_key_revision_counts_only_for_the_followed_log(followed: str, known: int):
    """A command that changes keys follows no log and takes the reports as they are."""
    async with Cluster(1) as (node,):
        node.subscribers.start_over(followed)
        node.subscribers.connect("a")
        node.subscribers.confirm("a", 1, 9)
        await node.nodes.report(NodeReport("other", 1, [(5, 1)], [], 7, epoch=LOG))
        assert await node.reports.key_revision_of_all() == (2, known)


@virtual_time
async def test_report_of_an_older_release_counts_although_it_names_no_log():
    async with Cluster(1) as (node,):
        node.subscribers.connect("a")
        await node.nodes.report(NodeReport("older", 1, [(5, 1)], [("a", 5)], 7))
        assert await node.waits.wait_applied(at(5), 5) == (2, 2)
        assert await node.reports.key_revision_of_all() == (2, 0)
        node.subscribers.confirm("a", 5, 7)
        assert await node.reports.key_revision_of_all() == (2, 7)


@virtual_time
async def test_wait_counts_subscribers_of_all_nodes():
    async with Cluster(3) as (one, two, three):
        one.subscribers.connect("a")
        two.subscribers.connect("b")
        three.subscribers.connect("c")
        await asyncio.sleep(1)
        waiting = asyncio.create_task(one.waits.wait_applied(at(5), 60))
        one.subscribers.confirm("a", 5)
        two.subscribers.confirm("b", 9)
        await asyncio.sleep(1)
        assert not waiting.done()
        three.subscribers.confirm("c", 5)
        async with asyncio.timeout(1):
            assert await waiting == (3, 3)


@virtual_time
async def test_confirmation_at_another_node_than_the_stream_counts():
    async with Cluster(3) as (one, two, three):
        one.subscribers.connect("a")
        await asyncio.sleep(1)
        waiting = asyncio.create_task(three.waits.wait_applied(at(5), 60))
        await asyncio.sleep(1)
        two.subscribers.confirm("a", 5)
        async with asyncio.timeout(5):  # the default wait of RevokeToken
            assert await waiting == (1, 1)
        assert one.subscribers.counts(5) == (1, 1)


@virtual_time
async def test_wait_reads_confirmations_that_reached_another_node():
    async with Cluster() as (one, two):
        one.subscribers.connect("a")
        await asyncio.sleep(3)
        waiting = asyncio.create_task(one.waits.wait_applied(at(5), 60))
        await asyncio.sleep(0.1)
        two.subscribers.confirm("a", 5)
        async with asyncio.timeout(0.6):  # its report, and the next look at the reports
            assert await waiting == (1, 1)


@virtual_time
async def test_confirmation_of_an_unknown_subscriber_is_forgotten():
    cluster = Cluster()
    async with cluster as (one, two):
        two.subscribers.confirm("ghost", 5)
        await asyncio.sleep(1)
        assert (await cluster.stores.nodes.reports(60))[1].foreign == [("ghost", 5)]
        await asyncio.sleep(15)
        assert (await cluster.stores.nodes.reports(60))[1].foreign == []
        assert one.subscribers.counts(5) == (0, 0)


@virtual_time
async def test_invented_subscriber_ids_of_one_caller_evict_no_ids_of_others():
    clock = LoopClock()
    stores = MemoryStores(clock)
    here, there = (Member(name, stores.nodes, clock) for name in ("here", "there"))
    here.subscribers.connect("honest:v")
    for number in range(5000):
        there.subscribers.confirm(f"evil:{number}", 5, caller="evil")
    there.subscribers.confirm("honest:v", 5, caller="honest")
    running = [asyncio.create_task(node.reports.run()) for node in (here, there)]
    assert await here.waits.wait_applied(at(5), 5) == (1, 1)
    (report,) = [report for report in await stores.nodes.reports(60) if report.node_id == "there"]
    assert len(report.foreign) == MAX_FOREIGN_PER_CALLER + 1
    await asyncio.sleep(15)  # both are forgotten, with their counts
    there.subscribers.confirm("evil:again", 6, caller="evil")
    await asyncio.sleep(3)
    (report,) = [report for report in await stores.nodes.reports(60) if report.node_id == "there"]
    assert report.foreign == [("evil:again", 6)]
    for task in running:
        await cancelled(task)


@virtual_time
async def test_stopped_node_is_not_waited_for():
    cluster = Cluster()
    async with cluster as (one, two):
        two.subscribers.connect("b")
        await asyncio.sleep(1)
        assert await counts(one, 5) == (1, 0)
        await cluster.stop(1)
        assert await counts(one, 5) == (0, 0)


@virtual_time
async def test_crashed_node_is_waited_for_until_its_report_is_too_old():
    cluster = Cluster()
    async with cluster as (one, two):
        two.subscribers.connect("b")
        await asyncio.sleep(1)
        cluster.reports[1].before["forget"] = raising(StoreUnavailableError())
        await cluster.stop(1)
        assert await counts(one, 5) == (1, 0)
        assert await one.waits.wait_applied(at(5), 20) == (0, 0)


@virtual_time
async def test_reports_resume_when_the_store_is_back(caplog: pytest.LogCaptureFixture):
    cluster = Cluster()
    async with cluster as (one, two):
        two.subscribers.connect("b")
        await asyncio.sleep(1)
        cluster.reports[1].before["report"] = raising(StoreUnavailableError())
        two.subscribers.confirm("b", 5)
        await asyncio.sleep(5)
        assert await counts(one, 5) == (1, 0)
        cluster.reports[1].before.clear()
        await asyncio.sleep(0.6)
        assert await counts(one, 5) == (1, 1)
        assert [r.levelname for r in caplog.records if r.name.endswith("subscribers.reports")] == ["WARNING"]


@virtual_time
async def test_idle_node_reports_every_two_seconds_and_a_changed_one_at_once():
    cluster = Cluster(1)
    async with cluster as (node,):
        node.subscribers.connect("a")
        await asyncio.sleep(1)
        calls = cluster.reports[0].calls
        calls.clear()
        await asyncio.sleep(20)
        assert 9 <= calls.count("report") <= 11
        calls.clear()
        node.subscribers.confirm("a", 5)
        await asyncio.sleep(0.26)
        assert calls.count("report") == 1


@virtual_time
async def test_stop_does_not_wait_for_a_store_that_hangs():
    cluster = Cluster(1)
    async with cluster:

        async def forever() -> None:
            await asyncio.sleep(3600)

        cluster.reports[0].before["forget"] = forever
        loop = asyncio.get_running_loop()
        began = loop.time()
        await cluster.stop(0)
        assert loop.time() <= began + 1.01


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 300), max_size=60)
    | st.lists(st.integers(0, 300), min_size=60, max_size=140, unique=True)
    | st.permutations(range(200)).flatmap(lambda order: st.just(order[:150] + order[100:150])),
    st.integers(0, 310),
)
def test_merged_pairs_never_overstate_and_keep_the_total(applied: list[int], sequence: int):
    pairs = _pairs(Counter(applied), 0)
    assert len(pairs) <= 64
    assert sum(count for _, count in pairs) == len(applied)
    true = sum(1 for at in applied if at >= sequence)
    said = sum(count for at, count in pairs if at >= sequence)
    assert said <= true
    if len(set(applied)) <= 64:
        assert said == true
        assert Counter(dict(pairs)) == Counter(applied)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_node_overstates_in_any_order_of_events(data: st.DataObject):
    """Connections, confirmations at any node, lost reports and changes of the log."""
    names = ["a", "b", "c"]

    async def scenario() -> None:
        cluster = Cluster(2)
        async with cluster as nodes:
            true: dict[tuple[str, str], int] = {}
            homes: dict[str, Member] = {}
            for _ in range(data.draw(st.integers(1, 15), "steps")):
                name = data.draw(st.sampled_from(names), "subscriber")
                step = data.draw(st.sampled_from(["connect", "confirm", "wait", "store", "change"]), "step")
                if step == "connect" and name not in homes:
                    homes[name] = data.draw(st.sampled_from(nodes), "node")
                    homes[name].subscribers.connect(name)
                elif step == "confirm" and name in homes:
                    node = data.draw(st.sampled_from(nodes), "node")
                    place = node.subscribers.epoch, name
                    true[place] = true.get(place, 0) + 1
                    node.subscribers.confirm(name, true[place])
                elif step == "change":
                    node = data.draw(st.sampled_from(nodes), "node")
                    if node.subscribers.epoch == LOG:
                        node.subscribers.start_over("log2")
                elif step == "store":
                    store = data.draw(st.sampled_from(cluster.reports), "store")
                    if store.before.pop("report", None) is None:
                        store.before["report"] = raising(StoreUnavailableError())
                else:
                    await asyncio.sleep(data.draw(st.sampled_from([0.1, 0.3, 2.1]), "seconds"))
                for node in nodes:
                    await node.reports.read()
                    for sequence, epoch in product((1, 2, 3), (LOG, "log2")):
                        connected, applied = node.reports.counts(at(sequence, epoch))
                        assert applied <= sum(1 for n in homes if true.get((epoch, n), 0) >= sequence)
                        assert applied <= connected <= len(homes)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
