"""`NodeStore` over every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.support.deadline import eventually
from token_service.core.subscribers.node_details import NodeDetails, NodeSignals, RedisState
from token_service.core.subscribers.node_store import ListedSubscriber, NodeReport, SubscriberList

REPORT = NodeReport("node-1", 3, [(5, 2), (7, 1)], [("subscriber/ä", 6)], 4, epoch="log1")


def ageless(reports):
    return [
        replace(report, age=0.0, applied=list(report.applied), foreign=list(report.foreign))
        for report in reports
    ]


async def test_every_node_sees_every_report(pair):
    other = NodeReport("node-2", 0, [], [])
    await pair[0].nodes.report(REPORT)
    await pair[1].nodes.report(other)
    for stores in pair:
        reports = await stores.nodes.reports(60)
        assert ageless(reports) == [REPORT, other]
        assert all(0 <= report.age < 60 for report in reports)


async def test_a_report_replaces_the_previous_one(stores):
    await stores.nodes.report(REPORT)
    later = replace(REPORT, connected=4, applied=[(9, 4)], foreign=[])
    await stores.nodes.report(later)
    assert ageless(await stores.nodes.reports(60)) == [later]


async def test_a_report_carries_the_details_of_its_node(pair):
    signals = NodeSignals(
        not_ready=("the disk is full",),
        redis=RedisState.FAILING,
        database_connections=3,
        certificate_expire_time=2_000_000_000.25,
        policy_file_failing=True,
    )
    details = NodeDetails(
        host="a:7",
        version="1.2.3",
        start_time=5.5,
        applied="log1:7",
        ran=(("janitor", 6.5),),
        signals=signals,
    )
    report = replace(REPORT, details=details, wants_subscribers=True)
    await pair[0].nodes.report(report)
    assert ageless(await pair[1].nodes.reports(60)) == [report]
    await pair[0].nodes.report(replace(report, wants_subscribers=False))
    assert ageless(await pair[1].nodes.reports(60)) == [replace(report, wants_subscribers=False)]


def subscriber(name, **fields):
    return ListedSubscriber(
        subscriber=f"k:{name}", name=name, caller="web", sequence=4, connected_for=7.5, **fields
    )


async def test_list_of_subscribers_is_stored_beside_the_report_until_it_is_deleted(pair):
    one, other = pair[0].nodes, pair[1].nodes
    await one.report(REPORT)
    await one.report(replace(REPORT, node_id="node-2"))
    assert [each.list_age for each in await other.reports(60)] == [None, None]
    assert await other.lists(["node-1", "node-2"]) == {}
    first = SubscriberList("log1", [subscriber("ä")])
    full = subscriber(
        "b",
        confirmation_age=0.5,
        is_silent=True,
        key_revision=3,
        client_version="1",
        validated=9,
        refusals={"EXPIRED": 2},
    )
    second = SubscriberList("log1", [full, subscriber("c")])
    for listed in (first, second):
        await one.put_list("node-1", listed)
        found = await other.lists(["node-1", "node-2"])
        assert {node: replace(each, age=0.0) for node, each in found.items()} == {"node-1": listed}
        assert 0 <= found["node-1"].age < 60
    assert await other.lists(["node-2"]) == await other.lists([]) == {}
    await one.report(REPORT)  # a later report keeps the list
    has, has_not = await other.reports(60)
    assert 0 <= has.list_age < 60
    assert has_not.list_age is None
    await one.put_list("node-1", None)
    assert await other.lists(["node-1"]) == {}
    assert [each.list_age for each in await other.reports(60)] == [None, None]


async def test_node_without_a_report_has_no_list(stores):
    await stores.nodes.put_list("node-1", SubscriberList("log1", [subscriber("a")]))
    await stores.nodes.report(REPORT)
    assert await stores.nodes.lists(["node-1"]) == {}
    await stores.nodes.put_list("node-1", SubscriberList("log1", [subscriber("a")]))
    await stores.nodes.forget("node-1")
    await stores.nodes.report(REPORT)
    assert await stores.nodes.lists(["node-1"]) == {}


async def test_list_of_ten_thousand_subscribers_is_stored(stores):
    await stores.nodes.report(REPORT)
    listed = SubscriberList("log1", [subscriber(f"host-{n}") for n in range(10_000)])
    await stores.nodes.put_list("node-1", listed)
    found = (await stores.nodes.lists(["node-1"]))["node-1"]
    assert list(found.subscribers) == list(listed.subscribers)


async def test_old_reports_are_deleted(pair):
    await pair[0].nodes.report(REPORT)
    await pair[0].nodes.report(replace(REPORT, node_id="node-2"))

    async def gone():
        await pair[0].nodes.report(replace(REPORT, node_id="node-2"))
        return [report.node_id for report in await pair[1].nodes.reports(0.3)] == ["node-2"]

    await eventually(gone)
    # Deleted, not only filtered out.
    assert [report.node_id for report in await pair[0].nodes.reports(3600)] == ["node-2"]


async def test_the_age_of_a_report_grows(stores):
    await stores.nodes.report(REPORT)

    async def older():
        (report,) = await stores.nodes.reports(60)
        return report.age >= 0.05

    await eventually(older)


async def test_forget_deletes_a_report_and_ignores_unknown_nodes(pair):
    await pair[0].nodes.report(REPORT)
    await pair[1].nodes.forget("node-1")
    await pair[1].nodes.forget("unknown")
    assert await pair[0].nodes.reports(60) == []


async def test_concurrent_reports_keep_one_row_per_node(pair):
    await asyncio.gather(
        *(pair[n % 2].nodes.report(replace(REPORT, node_id=f"node-{n % 5}", connected=n)) for n in range(20)),
        *(pair[n % 2].nodes.reports(60) for n in range(10)),
    )
    assert len(await pair[0].nodes.reports(60)) == 5
