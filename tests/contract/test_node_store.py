"""`NodeStore` over every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.support.deadline import eventually
from token_service.core.subscribers.node_store import NodeReport

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
