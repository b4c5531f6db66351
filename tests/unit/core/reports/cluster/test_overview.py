"""GetOverview joins the reports of all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from tests.support.deadline import eventually
from tests.unit.core.node import Node
from tests.unit.core.two_nodes import draft
from tests.unit.core.virtual_time import START, ManualClock
from token_service.core.access.caller import Caller
from token_service.core.clients.client import ClientMetadata
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT, RotationRules
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.policies.policy import DAY
from token_service.core.reports.cluster.overview import Backlogs, Overview, key_entries
from token_service.core.reports.cluster.propagation import PropagationSummary
from token_service.core.sessions.selection import Accuracy, SessionReach
from token_service.core.subscribers.node_details import NodeDetails, NodeSignals, Reached
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import OverloadedError, StoreUnavailableError
from token_service.tokens.algorithms import Algorithm


async def overview(node: Node[ManualClock]) -> Overview:
    return await node.core.cluster.overview.get(Caller.system())


async def test_overview_joins_the_reports_of_all_nodes() -> None:
    node = await Node(ManualClock()).start()
    await node.stores.log.append([draft(f"subject-{number}") for number in range(5)])
    await node.tailer._look()
    epoch = node.replica.epoch
    for name, sequence in (("a", 5), ("b", 3)):
        node.subscribers.connect(name)
        node.subscribers.confirm(name, sequence)
    details = NodeDetails(
        version="1",
        reached=(Reached(1, START, 0.5), Reached(4, START, 9.0)),
        ran=(("janitor", START + 7),),
        signals=NodeSignals(audit_waiting=3, policies_revision=8),
    )
    await node.stores.nodes.report(
        NodeReport("node-2", 4, [(5, 1), (4, 2), (-1, 1)], [], epoch=epoch, details=details)
    )
    await node.stores.nodes.report(NodeReport("node-3", 2, [(9, 2)], [], epoch="earlier", details=details))
    await node.stores.leases.acquire("janitor", "node-2", 60)
    await node.stores.leases.acquire("keys", "killed", 60)
    await node.issue()
    await node.core.client_administration.create(Caller.system(), "app", ClientMetadata(), 0.0)
    await node.core.client_administration.create(Caller.system(), "old", ClientMetadata(), 0.0)
    await node.core.client_administration.disable(Caller.system(), "old", 0.0)
    await node.clients.refresh()

    found = await overview(node)
    assert [each.report.node_id for each in found.nodes] == ["node-1", "node-2", "node-3"]
    assert found.head.sequence == 6, "the client was disabled by an entry"
    assert (found.connected, found.silent) == (8, 1)
    assert found.behind == 8, "no subscriber has confirmed the last entry"
    assert (found.clients_active, found.sessions.sessions) == (1, 1)
    assert found.policies_revision == 8
    assert [(each.name, each.node_id, each.last_run_time, each.backlog) for each in found.jobs] == [
        ("janitor", "node-2", START + 7, 0),
        ("key-rotation", "", None, 0),
        ("logout-delivery", "", None, 0),
        ("audit-checkpoint", "", None, 6),
    ]
    assert found.propagation == PropagationSummary(), "node-3 has confirmed nothing of this log"
    names = [each.name for each in found.problems]
    assert "subscriber_silent" in names
    assert names.count("job_without_leader") == 2

    old = replace(details, reached=(Reached(1, START, 99.0),))
    await node.stores.nodes.report(NodeReport("node-3", 0, [], [], epoch="earlier", details=old))
    found = await overview(node)
    assert found.propagation == PropagationSummary(1, 0.5, 0.5, 0.5, START, (Reached(1, START, 0.5),)), (
        "entry 4 is missing at subscriber b"
    )


async def test_counts_of_a_quiet_service_are_zero() -> None:
    found = await overview(await Node(ManualClock()).start())
    assert (found.connected, found.behind, found.silent, found.revocations) == (0, 0, 0, 0)
    assert (found.sessions.sessions, found.clients_active, found.policies_revision) == (0, 0, 0)
    assert [each.key.state for each in found.keys] == [SigningKeyState.ACTIVE]


async def test_keys_have_the_time_of_their_next_change() -> None:
    rules = RotationRules(Algorithm.ES256, period=90 * DAY, announce=600.0)
    key = StoredSigningKey(
        key_id="active",
        algorithm=Algorithm.ES256,
        state=SigningKeyState.ACTIVE,
        public_key=b"",
        private_key=b"",
        wrapping_key_id="",
        create_time=0.0,
        activate_time=10.0,
    )
    keys = [
        replace(key, key_id="revoked", state=SigningKeyState.REVOKED),
        replace(key, key_id="retired", state=SigningKeyState.RETIRED, retire_time=100.0),
        replace(key, key_id="prepared", state=SigningKeyState.PREPARED, activate_time=None),
        key,
    ]
    assert [(each.key.key_id, each.next_change_time) for each in key_entries(keys, rules)] == [
        ("active", 10.0 + 90 * DAY),
        ("prepared", 10.0 + 90 * DAY),
        ("retired", 100.0 + PUBLISHED_AFTER_RETIREMENT),
        ("revoked", None),
    ]
    assert [each.next_change_time for each in key_entries(keys[:3], rules)] == [
        None,
        100.0 + PUBLISHED_AFTER_RETIREMENT,
        None,
    ]


async def no_webhooks() -> Sequence[str]:
    return ()


async def test_sessions_are_counted_at_most_every_30_seconds() -> None:
    clock = ManualClock()
    counted: list[float] = []
    failing = True

    async def count_sessions(now: float) -> SessionReach:
        counted.append(now - START)
        if failing:
            raise StoreUnavailableError
        return SessionReach(sessions=len(counted))

    async def count_logouts() -> int:
        return 0

    backlogs = Backlogs(count_logouts, count_sessions, no_webhooks, clock)
    with pytest.raises(StoreUnavailableError):
        await backlogs.sessions()
    failing = False
    answers = []
    for clock.elapsed in (1.0, 2.0, 30.9, 31.0):
        answers.append((await backlogs.sessions()).sessions)
    assert answers == [2, 2, 2, 3]
    assert counted == [0.0, 1.0, 31.0]


async def test_last_count_of_sessions_is_shown_while_too_many_counts_wait() -> None:
    clock = ManualClock()
    outcomes: Iterator[int | OverloadedError] = iter([OverloadedError(), 7, OverloadedError(), 9])

    async def count_sessions(_now: float) -> SessionReach:
        outcome = next(outcomes)
        if isinstance(outcome, OverloadedError):
            raise outcome
        return SessionReach(sessions=outcome)

    async def count_logouts() -> int:
        return 0

    backlogs = Backlogs(count_logouts, count_sessions, no_webhooks, clock)
    with pytest.raises(OverloadedError):
        await backlogs.sessions()
    answers = []
    for clock.elapsed in (1.0, 31.0, 32.0):
        answers.append((await backlogs.sessions()).sessions)
    assert answers == [7, 7, 9]


async def test_calls_during_the_first_count_wait_for_it_and_later_ones_do_not() -> None:
    clock = ManualClock()
    counts: list[asyncio.Future[SessionReach]] = []

    async def count_sessions(_now: float) -> SessionReach:
        counts.append(asyncio.get_running_loop().create_future())
        return await counts[-1]

    async def count_logouts() -> int:
        return 0

    backlogs = Backlogs(count_logouts, count_sessions, no_webhooks, clock)
    calls = [asyncio.create_task(backlogs.sessions()) for _ in range(3)]
    await eventually(lambda: counts)
    counts[0].set_result(SessionReach(sessions=7, accuracy=Accuracy.ESTIMATE))
    assert {(await call).sessions for call in calls} == {7}
    clock.elapsed += 30.0
    slow = asyncio.create_task(backlogs.sessions())
    await eventually(lambda: len(counts) == 2)
    assert (await backlogs.sessions()).sessions == 7
    counts[1].set_result(SessionReach(sessions=8))
    assert (await slow).sessions == 8
    assert len(counts) == 2


async def test_jobs_tell_their_last_run() -> None:
    node = await Node(ManualClock()).start()
    node.clock.elapsed = 50.0
    await node.core.janitor.sweep()
    await node.core.audit_keeper.keep()
    assert dict(node.core.cluster.description.details().ran) == {
        "janitor": pytest.approx(node.time.now()),
        "audit": START + 50.0,
    }
    other = await Node(ManualClock(), stores=node.stores, node_id="node-2").start()
    await other.core.janitor.sweep()
    assert dict(other.core.cluster.description.details().ran) == {}, "node-1 has the lease"
