"""The cluster part of AdminService over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.rpc.serving import Served, refused, serving
from token_service.core.subscribers.node_details import NodeDetails, NodeSignals, RedisState
from token_service.core.subscribers.node_store import NodeReport
from token_service.v1 import admin_service_pb2 as pb, token_service_pb2 as token_pb
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def admin(served: Served) -> Any:
    return AdminServiceStub(served.channel)


async def test_nodes_are_listed_with_their_details_and_jobs(served: Served) -> None:
    node = served.node
    node.core.cluster.description.signals = lambda: NodeSignals(
        not_ready=("the disk is full",),
        redis=RedisState.FAILING,
        database_connections=3,
        database_connections_max=10,
        database_waiting=2,
        certificate_expire_time=2_000_000_000.5,
        policies_revision=4,
    )
    await node.stores.nodes.report(
        NodeReport("node-0", 7, [(1, 7)], [], details=NodeDetails(host="b:7", version="9.9.9"))
    )
    await node.stores.nodes.report(NodeReport("older", 0, [], []))
    await node.stores.leases.acquire("janitor", "node-1", 30)
    await node.stores.leases.acquire("keys", "node-0", 30)
    await served.revoke(subject="alice")
    answer = await admin(served).ListNodes(pb.ListNodesRequest())
    assert [each.node_id for each in answer.nodes] == ["node-0", "node-1", "older"]
    other, own, older = answer.nodes
    assert (other.host, other.version, other.subscribers, other.ready) == ("b:7", "9.9.9", 7, True)
    assert list(other.jobs) == ["key-rotation"]
    assert (own.ready, list(own.problems), own.redis) == (False, ["the disk is full"], "failing")
    assert (own.database_connections, own.database_connections_max, own.database_waiting) == (3, 10, 2)
    assert own.certificate_expire_time.ToMicroseconds() == 2_000_000_000_500_000
    assert own.applied_cursor == str(node.replica.cursor)
    assert own.applied_cursor.endswith(":1")
    assert (own.key_set_revision, own.policies_revision) == (node.keyring.revision, 4)
    assert list(own.jobs) == ["janitor"]
    assert own.HasField("start_time")
    assert (older.version, older.HasField("start_time"), older.HasField("certificate_expire_time")) == (
        "",
        False,
        False,
    )


async def test_followers_are_listed_with_what_they_confirmed(served: Served) -> None:
    await served.revoke(subject="alice")
    async with served.follow(subscriber_id="web-1") as reader, served.follow(subscriber_id="web-2") as other:
        cursor = (await reader.caught_up()).cursor
        await other.caught_up()
        report = token_pb.ConfirmRevocationsRequest(
            subscriber_id="web-1",
            applied_cursor=cursor,
            key_set_revision=3,
            client_version="python 1.2",
            validated=40,
        )
        report.refusals.add(reason="EXPIRED", count=2)
        await served.tokens.ConfirmRevocations(report)
        answer = await admin(served).ListSubscribers(pb.ListSubscribersRequest())
        behind, current = answer.subscribers
        assert (behind.subscriber_id, behind.caller, behind.node_id) == ("web-2", "anybody", "node-1")
        assert (behind.applied_cursor, behind.entries_behind, behind.HasField("confirmation_age")) == (
            "",
            1,
            False,
        )
        assert (current.subscriber_id, current.applied_cursor, current.entries_behind) == ("web-1", cursor, 0)
        assert (current.client_version, current.validated, dict(current.refusals)) == (
            "python 1.2",
            40,
            {"EXPIRED": 2},
        )
        assert (current.key_set_revision, current.silent) == (3, False)
        assert current.HasField("confirmation_age")
        assert current.HasField("connected_for")
        assert (answer.head_cursor, answer.next_page_token, list(answer.missing_nodes)) == (cursor, "", [])
        page = await admin(served).ListSubscribers(pb.ListSubscribersRequest(page_size=1))
        assert [each.subscriber_id for each in page.subscribers] == ["web-2"]
        rest = pb.ListSubscribersRequest(page_size=1, page_token=page.next_page_token)
        assert [each.subscriber_id for each in (await admin(served).ListSubscribers(rest)).subscribers] == [
            "web-1"
        ]
        only = pb.ListSubscribersRequest(behind_only=True, caller="anybody", node_id="node-1")
        assert [each.subscriber_id for each in (await admin(served).ListSubscribers(only)).subscribers] == [
            "web-2"
        ]


async def test_overview_shows_the_service_on_one_page(served: Served) -> None:
    node = served.node
    node.core.cluster.description.signals = lambda: NodeSignals(
        not_ready=("the disk is full",), audit_waiting=2
    )
    await node.stores.leases.acquire("janitor", "node-1", 30)
    await served.issue()
    async with served.follow(subscriber_id="web-1") as reader:
        await reader.caught_up()
        await served.revoke(subject="bob")
        cursor = (await reader.caught_up()).cursor
        request = token_pb.ConfirmRevocationsRequest(subscriber_id="web-1", applied_cursor=cursor)
        await served.tokens.ConfirmRevocations(request)
        answer = await admin(served).GetOverview(pb.GetOverviewRequest())
    assert (answer.issuer, answer.head_cursor) == (node.core.options.issuer, cursor)
    assert [each.node_id for each in answer.nodes] == ["node-1"]
    assert (answer.subscribers_connected, answer.subscribers_behind, answer.subscribers_silent) == (1, 0, 0)
    assert (answer.propagation.count, answer.revocations, answer.sessions_active) == (1, 1, 1)
    assert answer.propagation.median == answer.propagation.p99 == answer.propagation.longest
    assert answer.propagation.HasField("last_time")
    active = answer.keys[0]
    assert (active.key_id, active.algorithm, active.state) == (
        node.keyring.signer().key_id,
        "ES256",
        "active",
    )
    assert active.next_change_time.seconds - active.activate_time.seconds == pytest.approx(90 * 86400, abs=1)
    assert [
        (each.name, each.node_id, each.backlog, each.HasField("last_run_time")) for each in answer.jobs
    ] == [
        ("janitor", "node-1", 0, False),
        ("key-rotation", "", 0, False),
        ("logout-delivery", "", 0, False),
        ("audit-checkpoint", "", 2, False),
    ]
    first = answer.problems[0]
    assert (first.name, first.severity, first.node_id) == ("node_not_ready", "critical", "node-1")
    assert "the disk is full" in first.message


async def test_wrong_page_is_refused(served: Served) -> None:
    failure = await refused(
        admin(served).ListSubscribers(pb.ListSubscribersRequest(page_size=1001, page_token="!"))
    )
    assert (failure.code, set(failure.fields)) == ("INVALID_ARGUMENT", {"page_size", "page_token"})
