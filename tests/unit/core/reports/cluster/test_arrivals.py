"""How many subscribers of all nodes have confirmed a place in the log."""

from __future__ import annotations

import pytest

from tests.unit.core.node import Node
from tests.unit.core.two_nodes import draft
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.reports.cluster.arrivals import ClusterArrival
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import InvalidRequestError, PermissionDeniedError


async def test_arrival_counts_the_confirmations_of_all_nodes() -> None:
    node = await Node(ManualClock()).start()
    await node.stores.log.append([draft(f"subject-{number}") for number in range(5)])
    await node.tailer._look()
    epoch = node.replica.epoch
    for name, sequence in (("a", 5), ("b", 3)):
        node.subscribers.connect(name)
        node.subscribers.confirm(name, sequence)
    await node.stores.nodes.report(NodeReport("node-2", 4, [(5, 1), (4, 2), (-1, 1)], [], epoch=epoch))
    await node.stores.nodes.report(NodeReport("node-3", 2, [(9, 2)], [], epoch="earlier"))
    arrivals = node.core.cluster.arrivals

    async def get(cursor: str) -> ClusterArrival:
        return await arrivals.get(Caller.system(), cursor)

    assert await get(f"{epoch}:5") == ClusterArrival(7, 2, 1, is_followed=True)
    assert await get(f"{epoch}:4") == ClusterArrival(7, 4, 1, is_followed=True)
    assert await get(f"{epoch}:3") == ClusterArrival(7, 5, 1, is_followed=True)
    assert not (await get(f"{epoch}:3")).is_complete, "node-3 follows another log"
    await node.stores.nodes.forget("node-3")
    assert (await get(f"{epoch}:3")).is_complete, "the silent one is not waited for"
    assert not (await get("another-log:3")).is_followed


async def test_arrival_refuses_other_callers_and_texts() -> None:
    node = await Node(ManualClock()).start()
    with pytest.raises(PermissionDeniedError):
        await node.core.cluster.arrivals.get(Caller.anonymous(), "no cursor")
    with pytest.raises(InvalidRequestError, match="cursor"):
        await node.core.cluster.arrivals.get(Caller.system(), "no cursor")
