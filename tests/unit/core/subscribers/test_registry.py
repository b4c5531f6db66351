"""How many validators there are and how far each is, over all nodes: never said to be further than it is."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, raising
from tests.unit.core.virtual_time import LoopClock, VirtualTimeLoop, cancelled, settle, virtual_time
from token_service.core.subscribers.node_store import NodeReport
from token_service.core.subscribers.registry import Validators, _pairs
from token_service.errors import StoreUnavailableError


class Cluster:
    """Nodes that exchange reports."""

    def __init__(self, size: int = 2) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.reports = [Intercepted(self.stores.nodes) for _ in range(size)]
        self.nodes = [
            Validators(f"node-{number}", store, self.clock)  # type: ignore[arg-type]
            for number, store in enumerate(self.reports)
        ]
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> list[Validators]:
        self.tasks = [asyncio.create_task(node.run()) for node in self.nodes]
        await settle()
        return self.nodes

    async def __aexit__(self, *error: object) -> None:
        for task in self.tasks:
            if not task.done():
                await cancelled(task)

    async def stop(self, number: int) -> None:
        await cancelled(self.tasks[number])


async def counts(node: Validators, sequence: int, timeout: float = 0.06) -> tuple[int, int]:
    return await node.wait_applied(sequence, timeout)


# --- One node ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_counts_of_connected_and_confirmed_subscribers():
    async with Cluster(1) as (node,):
        assert node.counts(5) == (0, 0)
        for name in ("a", "b", "c"):
            node.connect(name)
        node.confirm("a", 5)
        node.confirm("b", 4)
        node.confirm("b", 6)
        node.confirm("c", 4)
        assert node.counts(5) == (3, 2)
        node.confirm("a", 3)  # late, from before
        assert node.counts(5) == (3, 2)
        node.disconnect("b")
        assert node.counts(5) == (2, 1)


@virtual_time
async def test_a_validator_counts_once_however_many_streams_it_has():
    async with Cluster(1) as (node,):
        node.connect("a")
        node.confirm("a", 5)
        node.connect("a")  # the new stream, before the old one is known to be dead
        assert node.counts(5) == (1, 1)
        node.disconnect("a")
        assert node.counts(5) == (1, 1)
        node.disconnect("a")
        assert node.counts(5) == (0, 0)
        node.connect("a")  # started anew: what it confirmed before its memory was lost counts no more
        assert node.counts(5) == (1, 0)


@virtual_time
async def test_another_log_makes_all_that_was_confirmed_void():
    async with Cluster() as (one, two):
        one.connect("a")
        one.confirm("a", 50, 7)
        two.confirm("a", 60)
        assert one.key_revision == 7
        assert await counts(one, 70, 0.5) == (1, 0)
        one.forget_progress()
        two.forget_progress()
        assert (one.counts(1), one.requested, one.key_revision) == ((1, 0), 0, 0)
        await asyncio.sleep(3)
        assert one.counts(1) == (1, 0)


# --- Waiting ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_without_validators_there_is_nothing_to_wait_for():
    async with Cluster() as (one, _):
        began = asyncio.get_running_loop().time()
        assert await one.wait_applied(5, 60) == (0, 0)
        assert asyncio.get_running_loop().time() == began


@virtual_time
async def test_a_wait_ends_with_the_last_confirmation():
    async with Cluster(1) as (node,):
        for number in range(3):
            node.connect(f"v-{number}")
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(node.wait_applied(5, 60))
        for number in range(3):
            await asyncio.sleep(1)
            assert not waiting.done()
            node.confirm(f"v-{number}", 5 + number)
        at = loop.time()
        assert await waiting == (3, 3)
        assert loop.time() == at  # at once, not at the next look


@virtual_time
async def test_wait_ends_when_unconfirmed_subscribers_disconnect():
    async with Cluster(1) as (node,):
        node.connect("a")
        node.connect("b")
        node.confirm("a", 5)
        waiting = asyncio.create_task(node.wait_applied(5, 60))
        await asyncio.sleep(1)
        node.disconnect("b")
        assert await waiting == (1, 1)


@virtual_time
async def test_a_wait_that_is_over_says_how_many_have_it_by_then():
    async with Cluster(1) as (node,):
        for name in ("a", "b", "c"):
            node.connect(name)
        node.confirm("a", 5)
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.create_task(node.wait_applied(5, 2.5))
        await asyncio.sleep(2.4)
        node.confirm("b", 5)
        assert await waiting == (3, 2)
        assert loop.time() == pytest.approx(began + 2.5)


@virtual_time
async def test_a_wait_fails_with_the_store():
    cluster = Cluster(1)
    async with cluster as (node,):
        node.connect("a")
        cluster.reports[0].before["reports"] = raising(StoreUnavailableError())
        with pytest.raises(StoreUnavailableError):
            await node.wait_applied(5, 1)


@virtual_time
async def test_a_wait_can_be_cancelled_and_others_go_on():
    async with Cluster(1) as (node,):
        node.connect("a")
        leaving = asyncio.create_task(node.wait_applied(5, 60))
        staying = asyncio.create_task(node.wait_applied(6, 60))
        await asyncio.sleep(1)
        await cancelled(leaving)
        node.confirm("a", 6)
        assert await staying == (1, 1)


@virtual_time
async def test_listeners_are_called_when_a_sequence_is_awaited():
    async with Cluster(1) as (node,):
        heard: list[int] = []
        node.on_request(lambda: heard.append(node.requested))
        node.connect("a")
        for sequence in (5, 3, 5, 8):
            await counts(node, sequence)
        assert heard == [5, 8]


# --- Several nodes ------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_wait_is_about_the_validators_of_all_nodes():
    async with Cluster(3) as (one, two, three):
        one.connect("a")
        two.connect("b")
        three.connect("c")
        await asyncio.sleep(1)
        waiting = asyncio.create_task(one.wait_applied(5, 60))
        one.confirm("a", 5)
        two.confirm("b", 9)
        await asyncio.sleep(1)
        assert not waiting.done()
        three.confirm("c", 5)
        async with asyncio.timeout(1):
            assert await waiting == (3, 3)


@virtual_time
async def test_a_confirmation_may_reach_another_node_than_the_stream_is_on():
    async with Cluster(3) as (one, two, three):
        one.connect("a")
        await asyncio.sleep(1)
        waiting = asyncio.create_task(three.wait_applied(5, 60))
        await asyncio.sleep(1)
        two.confirm("a", 5)
        async with asyncio.timeout(5):  # what RevokeToken waits by default
            assert await waiting == (1, 1)
        assert one.counts(5) == (1, 1)


@virtual_time
async def test_waiting_node_reads_confirmations_sent_to_other_nodes():
    async with Cluster() as (one, two):
        one.connect("a")
        await asyncio.sleep(3)
        waiting = asyncio.create_task(one.wait_applied(5, 60))
        await asyncio.sleep(0.1)
        two.confirm("a", 5)
        async with asyncio.timeout(0.6):  # its report, and the next look at the reports
            assert await waiting == (1, 1)


@virtual_time
async def test_confirmation_of_an_unknown_subscriber_is_forgotten():
    cluster = Cluster()
    async with cluster as (one, two):
        two.confirm("ghost", 5)
        await asyncio.sleep(1)
        assert (await cluster.stores.nodes.reports(60))[1].foreign == [("ghost", 5)]
        await asyncio.sleep(15)
        assert (await cluster.stores.nodes.reports(60))[1].foreign == []
        assert one.counts(5) == (0, 0)


@virtual_time
async def test_confirmations_of_strangers_are_bounded():
    async with Cluster() as (one, _):
        for number in range(10_000):
            one.confirm(f"ghost-{number}", 5)
        assert len(one._foreign) == 4096
        one.confirm("ghost-0", 6)
        assert one._foreign["ghost-0"][0] == 6


@virtual_time
async def test_a_node_that_left_in_order_is_not_waited_for():
    cluster = Cluster()
    async with cluster as (one, two):
        two.connect("b")
        await asyncio.sleep(1)
        assert await counts(one, 5) == (1, 0)
        await cluster.stop(1)
        assert await counts(one, 5) == (0, 0)


@virtual_time
async def test_a_node_that_died_is_not_waited_for_forever():
    cluster = Cluster()
    async with cluster as (one, two):
        two.connect("b")
        await asyncio.sleep(1)
        cluster.reports[1].before["forget"] = raising(StoreUnavailableError())
        await cluster.stop(1)
        assert await counts(one, 5) == (1, 0)
        assert await one.wait_applied(5, 20) == (0, 0)


@virtual_time
async def test_reports_stop_and_go_on_with_the_store(caplog: pytest.LogCaptureFixture):
    cluster = Cluster()
    async with cluster as (one, two):
        two.connect("b")
        await asyncio.sleep(1)
        cluster.reports[1].before["report"] = raising(StoreUnavailableError())
        two.confirm("b", 5)
        await asyncio.sleep(5)
        assert await counts(one, 5) == (1, 0)
        cluster.reports[1].before.clear()
        await asyncio.sleep(0.6)
        assert await counts(one, 5) == (1, 1)
        assert [r.levelname for r in caplog.records if r.name.endswith("subscribers.registry")] == ["WARNING"]


@virtual_time
async def test_a_quiet_node_reports_now_and_then_and_a_busy_one_at_once():
    cluster = Cluster(1)
    async with cluster as (node,):
        node.connect("a")
        await asyncio.sleep(1)
        calls = cluster.reports[0].calls
        calls.clear()
        await asyncio.sleep(20)
        assert 9 <= calls.count("report") <= 11
        calls.clear()
        node.confirm("a", 5)
        await asyncio.sleep(0.26)
        assert calls.count("report") == 1


@virtual_time
async def test_a_store_that_hangs_does_not_hold_up_the_end():
    cluster = Cluster(1)
    async with cluster:

        async def forever() -> None:
            await asyncio.sleep(3600)

        cluster.reports[0].before["forget"] = forever
        loop = asyncio.get_running_loop()
        began = loop.time()
        await cluster.stop(0)
        assert loop.time() <= began + 1.01


# --- Merging ----------------------------------------------------------------------------------------------------------------------


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


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_happens_no_node_overstates(data: st.DataObject):
    """Connections, confirmations anywhere and lost reports: what a node says was true of validators that are
    connected.
    """
    names = ["a", "b", "c"]

    async def scenario() -> None:
        cluster = Cluster(2)
        async with cluster as nodes:
            true: dict[str, int] = {}
            at: dict[str, Validators] = {}
            for _ in range(data.draw(st.integers(1, 15), "steps")):
                name = data.draw(st.sampled_from(names), "validator")
                step = data.draw(st.sampled_from(["connect", "confirm", "wait", "store"]), "step")
                if step == "connect" and name not in at:
                    at[name] = data.draw(st.sampled_from(nodes), "node")
                    at[name].connect(name)
                elif step == "confirm" and name in at:
                    true[name] = true.get(name, 0) + 1
                    data.draw(st.sampled_from(nodes), "node").confirm(name, true[name])
                elif step == "store":
                    store = data.draw(st.sampled_from(cluster.reports), "store")
                    if store.before.pop("report", None) is None:
                        store.before["report"] = raising(StoreUnavailableError())
                else:
                    await asyncio.sleep(data.draw(st.sampled_from([0.1, 0.3, 2.1]), "seconds"))
                for node in nodes:
                    reports: list[NodeReport] = list(await cluster.stores.nodes.reports(10))
                    for sequence in (1, 2, 3):
                        connected, applied = node.counts(sequence, reports)
                        assert applied <= sum(1 for n in at if true.get(n, 0) >= sequence)
                        assert applied <= connected <= len(at)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
