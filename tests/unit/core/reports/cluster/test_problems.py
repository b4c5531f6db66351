"""Each rule finds its problem, at its limit and not before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.reports.cluster.nodes import RunningNode
from token_service.core.reports.cluster.problems import DAY, ServiceState, Severity, find_problems
from token_service.core.subscribers.node_details import NodeDetails, NodeSignals, RedisState
from token_service.core.subscribers.node_store import NodeReport
from token_service.tokens.algorithms import Algorithm

NOW = 1_800_000_000.0
RULES = RotationRules(Algorithm.ES256, period=90 * DAY, announce=600.0)


def node(age: float = 0.0, *, node_id: str = "node-1", details: Any = None, **signals: Any) -> RunningNode:
    described = NodeDetails(
        **{"version": "1.0", "start_time": NOW - DAY, "signals": NodeSignals(**signals), **(details or {})}
    )
    return RunningNode(NodeReport(node_id, 0, [], [], age=age, details=described), [], described)


def key(state: SigningKeyState = SigningKeyState.ACTIVE, age: float = 1.0) -> StoredSigningKey:
    return StoredSigningKey(
        key_id="key-1",
        algorithm=Algorithm.ES256,
        state=state,
        public_key=b"",
        private_key=b"",
        wrapping_key_id="",
        create_time=NOW - 400 * DAY,
        activate_time=None if state is SigningKeyState.PREPARED else NOW - age,
    )


HEALTHY = ServiceState(
    now=NOW, nodes=[node()], leases={"janitor", "keys", "audit"}, keys=[key()], rotation=RULES
)


def found(**changes: Any) -> list[tuple[str, str, str]]:
    return [
        (each.name, each.severity.value, each.node_id) for each in find_problems(replace(HEALTHY, **changes))
    ]


def test_healthy_service_has_no_problem() -> None:
    assert found() == []
    assert found(nodes=[]) == []


OLD = RunningNode(NodeReport("node-0", 0, [], []), [])
"""A node of 0.1.0, which does not describe itself."""
JUST_STARTED = {"start_time": NOW - 1}
NEW = node(details=JUST_STARTED)
CERTIFICATE = 30 * DAY
OVERDUE = 90 * DAY + 2 * 600 + 3600
CASES: list[tuple[dict[str, Any], dict[str, Any], tuple[str, str, str]]] = [
    ({"nodes": [node()]}, {"nodes": [node(not_ready=("x",))]}, ("node_not_ready", "critical", "node-1")),
    ({"nodes": [node(4.9)]}, {"nodes": [node(5.0)]}, ("node_silent", "warning", "node-1")),
    (
        {"nodes": [node(details={"staleness": 4.9})]},
        {"nodes": [node(details={"staleness": 5.0})]},
        ("node_stale", "critical", "node-1"),
    ),
    ({"silent": 0}, {"silent": 1, "behind": 1, "behind_for": 90.0}, ("subscriber_silent", "critical", "")),
    (
        {"behind": 3, "behind_for": 59.9},
        {"behind": 3, "behind_for": 60.0},
        ("subscriber_behind", "warning", ""),
    ),
    (
        {"nodes": [node(certificate_expire_time=NOW + CERTIFICATE + 1)]},
        {"nodes": [node(certificate_expire_time=NOW + CERTIFICATE)]},
        ("certificate_expiring", "warning", "node-1"),
    ),
    (
        {"nodes": [node(certificate_expire_time=None)]},
        {"nodes": [node(certificate_expire_time=NOW + 7 * DAY)]},
        ("certificate_expiring", "critical", "node-1"),
    ),
    (
        {"nodes": [node(certificate_expire_time=NOW + 31 * DAY)]},
        {"nodes": [node(certificate_expire_time=NOW)]},
        ("certificate_expired", "critical", "node-1"),
    ),
    ({"keys": [key(age=OVERDUE)]}, {"keys": [key(age=OVERDUE + 1)]}, ("signing_key_overdue", "warning", "")),
    (
        {"keys": [key(), key(SigningKeyState.RETIRED, age=OVERDUE + 1)]},
        {"keys": [key(SigningKeyState.PREPARED)]},
        ("signing_key_missing", "critical", ""),
    ),
    ({}, {"leases": {"keys", "audit"}}, ("job_without_leader", "warning", "")),
    ({}, {"leases": {"janitor", "audit"}}, ("job_without_leader", "warning", "")),
    ({}, {"leases": {"janitor", "keys", "logouts"}}, ("job_without_leader", "warning", "")),
    (
        {"nodes": [node(redis=RedisState.CONNECTED)]},
        {"nodes": [node(redis=RedisState.FAILING)]},
        ("redis_failing", "warning", "node-1"),
    ),
    (
        {"nodes": [node(database_connections=7, database_connections_max=7)]},
        {"nodes": [node(database_connections=7, database_connections_max=7, database_waiting=1)]},
        ("database_pool_exhausted", "warning", "node-1"),
    ),
    (
        {"nodes": [node(database_connections=6, database_connections_max=7, database_waiting=1)]},
        {"nodes": [node(database_connections=8, database_connections_max=7, database_waiting=1)]},
        ("database_pool_exhausted", "warning", "node-1"),
    ),
    ({}, {"nodes": [node(policy_file_failing=True)]}, ("policy_file_failing", "warning", "node-1")),
    (
        {"nodes": [node(audit_waiting=4999)]},
        {"nodes": [node(audit_waiting=5000)]},
        ("audit_backlog", "critical", "node-1"),
    ),
    ({"logouts": 999}, {"logouts": 1000}, ("logout_backlog", "warning", "")),
    ({"webhooks": []}, {"webhooks": ["wh_1"]}, ("webhooks_failing", "warning", "")),
    (
        {"nodes": [node(), node(details={"version": "1.1", "start_time": NOW - 3599})]},
        {"nodes": [node(), node(details={"version": "1.1", "start_time": NOW - 3600})]},
        ("versions_mixed", "warning", ""),
    ),
    (
        {"nodes": [NEW, OLD]},
        {"nodes": [NEW, OLD], "clients": 1},
        ("ignored_by_older_nodes", "warning", ""),
    ),
    (
        {"nodes": [node(policies_revision=3)], "clients": 1},
        {"nodes": [node(policies_revision=3, details=JUST_STARTED), OLD]},
        ("ignored_by_older_nodes", "warning", ""),
    ),
]


@pytest.mark.parametrize(
    ("below", "reached", "problem"), CASES, ids=[f"{n}-{c[2][0]}" for n, c in enumerate(CASES)]
)
def test_problem_is_found_at_its_limit(
    below: dict[str, Any], reached: dict[str, Any], problem: tuple[str, str, str]
) -> None:
    assert found(**below) == []
    assert found(**reached) == [problem]


def test_critical_problems_come_first() -> None:
    nodes = [node(policy_file_failing=True), node(not_ready=("x",), node_id="node-2")]
    problems = find_problems(replace(HEALTHY, nodes=nodes, silent=2, leases=set()))
    severities = [each.severity for each in problems]
    assert severities == sorted(severities, key=[Severity.CRITICAL, Severity.WARNING].index)
    assert [each.name for each in problems[:2]] == ["node_not_ready", "subscriber_silent"]


def test_message_names_the_matter_and_the_next_step() -> None:
    state = replace(
        HEALTHY,
        nodes=[node(not_ready=("the disk is full", "no gRPC"), certificate_expire_time=NOW + 1.5 * DAY)],
        silent=1,
    )
    messages = {each.name: each.message for each in find_problems(state)}
    assert "the disk is full; no gRPC" in messages["node_not_ready"]
    assert "expires in 1.5 days" in messages["certificate_expiring"]
    assert "TOKEN_SERVICE_TLS_CERT_FILE" in messages["certificate_expiring"]
    assert messages["subscriber_silent"].startswith("1 validator is connected but has not confirmed")
    assert "`token-service subscribers --behind`" in messages["subscriber_silent"]
    older = find_problems(
        replace(HEALTHY, nodes=[node(policies_revision=3, details=JUST_STARTED), OLD], clients=2)
    )
    assert [each.message for each in older] == [
        (
            "nodes of an earlier version run and ignore the registered clients, with their scopes, profiles and whether they are "
            "disabled and the overrides of policies (revision 3): node-0. Replace these nodes; docs/upgrading.md lists what needs "
            "all nodes to be new"
        )
    ]
    two = {each.name: each.message for each in find_problems(replace(HEALTHY, silent=2))}
    assert two["subscriber_silent"].startswith("2 validators are connected but have not confirmed")
