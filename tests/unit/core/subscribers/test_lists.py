"""The lists of subscribers are exchanged only while an operator asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.unit.core.node import raising
from tests.unit.core.subscribers.members import LOG, Cluster, Member
from tests.unit.core.virtual_time import virtual_time
from token_service.core.subscribers import lists as module
from token_service.core.subscribers.lists import LIST_WAIT, SubscriberLists
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.validations import ValidationReport, ValidationReports
from token_service.errors import StoreUnavailableError


class Listing:
    """A member with its lists."""

    def __init__(self, node_id: str, node: Member, cluster: Cluster) -> None:
        self.node_id = node_id
        self.subscribers, self.reports, self.store = node.subscribers, node.reports, node.nodes
        self.validations = ValidationReports(cluster.clock)
        self.lists = SubscriberLists(
            node_id, node.nodes, node.reports, node.subscribers, self.validations, cluster.clock
        )
        self.reports.describe_by(NodeDetails)
        self.reports.answer_by(self.lists)

    @property
    def writes(self) -> int:
        return self.store.calls.count("put_list")


@asynccontextmanager
async def listings(size: int = 2) -> AsyncIterator[list[Listing]]:
    cluster = Cluster(size)
    members = [Listing(f"node-{number}", node, cluster) for number, node in enumerate(cluster.nodes)]
    async with cluster:
        yield members


@virtual_time
async def test_lists_of_all_nodes_are_collected_and_then_deleted() -> None:
    async with listings(3) as (one, two, three):
        one.subscribers.connect("k:a", "a", "web")
        two.subscribers.connect("k:b", "b", "app")
        two.subscribers.confirm("k:b", 7, 4)
        two.validations.add(
            "k:b", "k", ValidationReport(client_version="1.2", validated=9, refusals=[("EXPIRED", 2)])
        )
        await asyncio.sleep(30)
        assert one.writes == two.writes == three.writes == 0, "nobody has asked"
        found = await one.lists.collect()
        assert found.missing == []
        assert set(found.of_node) == {"node-0", "node-1"}
        assert [each.name for each in found.of_node["node-0"].subscribers] == ["a"]
        (listed,) = found.of_node["node-1"].subscribers
        assert (found.of_node["node-1"].epoch, listed.subscriber, listed.name, listed.caller) == (
            LOG,
            "k:b",
            "b",
            "app",
        )
        assert (listed.sequence, listed.key_revision, listed.is_silent) == (7, 4, False)
        assert (listed.client_version, listed.validated, listed.refusals) == ("1.2", 9, {"EXPIRED": 2})
        assert listed.confirmation_age == pytest.approx(30, abs=3)
        assert listed.connected_for == pytest.approx(30, abs=3)
        await asyncio.sleep(15)
        assert await one.store.target.lists(["node-1"]) == {}, "the list is deleted once the request is over"
        before = two.writes
        await asyncio.sleep(100)
        assert two.writes == before
        assert three.writes == 0, "a node without subscribers writes nothing"


@virtual_time
async def test_lists_are_written_at_a_limited_rate_while_they_are_asked_for() -> None:
    async with listings() as (one, two):
        two.subscribers.connect("b")
        for _ in range(50):
            await one.lists.collect()
            two.subscribers.confirm("b", two.subscribers.applied["b"] + 1)
            await asyncio.sleep(0.2)
        assert 3 <= two.writes <= 7, "10 seconds at one list in 2 seconds"


@virtual_time
async def test_next_page_is_answered_from_the_collected_lists() -> None:
    async with listings() as (one, two):
        two.subscribers.connect("b")
        first = await one.lists.collect()
        reads = one.store.calls.count("lists")
        assert await one.lists.collect() is first
        assert one.store.calls.count("lists") == reads
        two.subscribers.connect("c")
        await asyncio.sleep(4.5)
        later = await one.lists.collect()
        assert [each.name for each in later.of_node["node-1"].subscribers] == ["b", "c"]


@virtual_time
async def test_node_that_does_not_answer_is_named_after_five_seconds() -> None:
    async with listings(3) as (one, two, three):
        two.subscribers.connect("b")
        three.subscribers.connect("c")
        await asyncio.sleep(3)
        two.store.before["put_list"] = raising(StoreUnavailableError())
        began = asyncio.get_running_loop().time()
        found = await one.lists.collect()
        assert LIST_WAIT <= asyncio.get_running_loop().time() - began < LIST_WAIT + 1
        assert found.missing == ["node-1"]
        assert set(found.of_node) == {"node-0", "node-2"}


@virtual_time
async def test_list_of_an_earlier_request_does_not_count() -> None:
    async with listings() as (one, two):
        two.subscribers.connect("b")
        await asyncio.sleep(3)
        assert set((await one.lists.collect()).of_node) == {"node-0", "node-1"}
        two.store.before["put_list"] = raising(StoreUnavailableError())
        await asyncio.sleep(6)
        assert set(await one.store.target.lists(["node-1"])) == {"node-1"}, "the old list is still there"
        assert (await one.lists.collect()).missing == ["node-1"]


@virtual_time
async def test_list_is_deleted_after_the_last_subscriber_has_gone() -> None:
    async with listings() as (one, two):
        two.subscribers.connect("b")
        await asyncio.sleep(3)
        assert set((await one.lists.collect()).of_node) == {"node-0", "node-1"}
        two.subscribers.disconnect("b")
        await asyncio.sleep(20)
        assert await one.store.target.lists(["node-1"]) == {}


@virtual_time
async def test_node_of_an_earlier_version_is_missing_without_a_wait() -> None:
    async with listings() as (one, two):
        two.reports._describe = lambda: None
        two.reports._lists = None
        two.subscribers.connect("b")
        await asyncio.sleep(3)
        began = asyncio.get_running_loop().time()
        found = await one.lists.collect()
        assert found.missing == ["node-1"]
        assert asyncio.get_running_loop().time() - began < 1


@virtual_time
async def test_one_node_can_be_asked_alone() -> None:
    async with listings(3) as (one, two, three):
        for number, each in enumerate((one, two, three)):
            each.subscribers.connect(f"s{number}")
        await asyncio.sleep(3)
        three.store.before["put_list"] = raising(StoreUnavailableError())
        assert set((await one.lists.collect("node-1")).of_node) == {"node-1"}
        assert set((await one.lists.collect("node-0")).of_node) == {"node-0"}
        unknown = await one.lists.collect("node-9")
        assert (dict(unknown.of_node), list(unknown.missing)) == ({}, [])


@virtual_time
async def test_list_of_a_node_is_bounded_to_those_furthest_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LISTED", 2)
    async with listings() as (one, _):
        for name, sequence in (("a", 9), ("b", 3), ("c", 0), ("d", 5)):
            one.subscribers.connect(name)
            if sequence:
                one.subscribers.confirm(name, sequence)
        listed = (await one.lists.own()).subscribers
        assert [(each.name, each.sequence) for each in listed] == [("c", 0), ("b", 3)]
        assert [each.confirmation_age for each in listed] == [None, 0.0]


@virtual_time
async def test_ended_stream_leaves_the_list() -> None:
    async with listings() as (one, _):
        one.subscribers.connect("a")
        one.subscribers.confirm("a", 3)
        one.subscribers.disconnect("a")
        assert (await one.lists.own()).subscribers == []
        one.subscribers.connect("a")
        (listed,) = (await one.lists.own()).subscribers
        assert listed.confirmation_age is None
