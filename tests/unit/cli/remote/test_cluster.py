"""`token-service overview`, `nodes` and `subscribers` over gRPC."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import StoreUnavailableError
from token_service.v1 import admin_service_pb2 as pb

NODE = pb.Node(
    node_id="a:1:ff",
    version="1.2",
    start_time=Timestamp(seconds=1_800_000_000),
    ready=True,
    staleness=Duration(nanos=250_000_000),
    subscribers=2,
    redis="connected",
    database_connections=3,
    database_connections_max=7,
    database_waiting=1,
    jobs=["janitor", "key-rotation"],
)
OVERVIEW = pb.GetOverviewResponse(
    version="1.2",
    issuer="https://issuer.example",
    schema_revision="0020",
    head_cursor="log:9",
    nodes=[NODE],
    subscribers_connected=5,
    subscribers_behind=2,
    subscribers_silent=1,
    revocations=9,
    sessions_active=70,
    clients_active=4,
    propagation=pb.Propagation(
        count=8,
        median=Duration(nanos=90_000_000),
        p99=Duration(seconds=1),
        longest=Duration(seconds=2),
        last_time=Timestamp(seconds=1_800_000_000),
    ),
    keys=[pb.KeySummary(key_id="key-1", algorithm="ES256", state="active")],
    jobs=[pb.Job(name="janitor", node_id="a:1:ff", backlog=3)],
    problems=[
        pb.Problem(name="node_stale", severity="critical", message="look at its log", node_id="a:1:ff"),
        pb.Problem(name="versions_mixed", severity="warning", message="finish the\x1b upgrade"),
    ],
)


def test_nodes_are_shown_as_a_table_and_as_json(run: Run, service: CommandService) -> None:
    service.answers["ListNodes"] = pb.ListNodesResponse(nodes=[NODE])
    header, row = run("nodes").stdout.splitlines()
    assert header.split() == (
        "NODE VERSION STARTED READY STALENESS SUBSCRIBERS DATABASE REDIS CERTIFICATE EXPIRES JOBS".split()
    )
    assert row.split() == (
        "a:1:ff 1.2 2027-01-15T08:00:00Z yes 250ms 2 3/7 (1 waiting) connected - janitor key-rotation".split()
    )
    (document,) = json.loads(run("nodes", "-o", "json").stdout)
    assert (document["node_id"], document["jobs"]) == ("a:1:ff", ["janitor", "key-rotation"])


def test_subscribers_are_read_page_by_page_with_the_filters(run: Run, service: CommandService) -> None:
    def answer(request: pb.ListSubscribersRequest) -> pb.ListSubscribersResponse:
        first = not request.page_token
        return pb.ListSubscribersResponse(
            subscribers=[
                pb.Subscriber(
                    subscriber_id="web-1" if first else "web-2",
                    caller="web",
                    node_id="n",
                    client_version="1.0" if first else "",
                    entries_behind=4 if first else 0,
                    silent=first,
                    confirmation_age=Duration(seconds=12) if first else None,
                    connected_for=Duration(seconds=61),
                    validated=7,
                    refusals={"REVOKED": 2, "EXPIRED": 1} if first else {},
                )
            ],
            next_page_token="next" if first else "",
            missing_nodes=["node-3"],
        )

    service.answers["ListSubscribers"] = answer
    result = run("subscribers", "--caller", "web", "--node", "n", "--behind", "--limit", "1500")
    assert result.exit_code == 0
    _, one, two = result.stdout.splitlines()
    assert one.split() == "web-1 web n 1.0 4 (silent) 12s 1m 1s - 7 EXPIRED:1 REVOKED:2".split()
    assert two.split() == "web-2 web n - 0 - 1m 1s - 7 -".split()
    assert "Node node-3 did not answer in time" in result.stderr
    asked: Any = service.requests["ListSubscribers"]
    assert [(each.page_size, each.page_token) for each in asked] == [(1000, ""), (1000, "next")]
    assert {(each.caller, each.node_id, each.behind_only) for each in asked} == {("web", "n", True)}


def test_overview_shows_problems_first(run: Run, service: CommandService) -> None:
    service.answers["GetOverview"] = OVERVIEW
    result = run("overview")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "https://issuer.example, version 1.2, schema 0020"
    assert lines[2] == "CRITICAL node_stale a:1:ff: look at its log"
    assert lines[3].startswith("WARNING versions_mixed: finish the")
    assert "\x1b" not in result.stdout
    text = " ".join(result.stdout.split())
    assert "validators 5 connected, 2 behind, 1 silent" in text
    assert "half within 90ms, 99 % within 1.0s, slowest 2.0s; the last 8, up to 2027-01-15T08:00:00Z" in text
    assert "9 in force, head log:9" in text
    assert "policies as in the file" in text
    assert "janitor a:1:ff - 3" in text
    assert "key-1 ES256 active - -" in text


def test_overview_of_a_healthy_service_says_so(run: Run, service: CommandService) -> None:
    service.answers["GetOverview"] = pb.GetOverviewResponse(issuer="i", policies_revision=3)
    output = " ".join(run("overview").stdout.split())
    assert "Nothing needs attention." in output
    assert "propagation not measured yet" in output
    assert "policies revision 3" in output


def test_check_fails_only_for_a_critical_problem(run: Run, service: CommandService) -> None:
    service.answers["GetOverview"] = OVERVIEW
    result = run("overview", "--check", "-o", "json")
    assert (result.exit_code, json.loads(result.stdout)["problems"][0]["name"]) == (6, "node_stale")
    warned = pb.GetOverviewResponse()
    warned.CopyFrom(OVERVIEW)
    del warned.problems[0]
    service.answers["GetOverview"] = warned
    assert run("overview", "--check").exit_code == 0
    assert run("overview", "--check", "--watch", "2").exit_code == 2


def test_watch_asks_again_and_outlives_a_failure(
    run: Run, service: CommandService, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            service.answers["GetOverview"] = StoreUnavailableError("the database is away")
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    service.answers["GetOverview"] = OVERVIEW
    result = run("overview", "--watch", "2.5", "-o", "json")
    assert (result.exit_code, pauses) == (0, [2.5, 2.5, 2.5])
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["head_cursor"] for each in documents] == ["log:9", "log:9"]
    assert "No answer, asking again in 2.5 s: the database is away" in result.stderr
