"""Automatic revocation at real nodes: limits and thresholds, reloaded rules, and `kill -9` of every node."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.calls import STRONG, TIMEOUT, Api, refused, sequence
from tests.integration.nodes import Node, nodes
from tests.integration.tour import DOCS, GRPC_ADDRESS, steps
from tests.support.deadline import eventually
from tests.support.files import rewrite
from tests.support.preloaded import path_of_commands
from token_service.core.administration.automatic.rules import parse_automatic_rules
from token_service.core.policies.policy import parse_policy_book
from token_service.v1 import audit_service_pb2 as audit_pb, audit_service_pb2_grpc

STRICT = '[classifications.internal]\ngrace_period = "0s"\nmax_retries = 0\n'
AGE = """
[automatic_revocation]
interval = "1s"
sessions_per_minute = 12000

[automatic_revocation.classifications.internal]
max_session_age = "1s"
"""
STOLEN = """
[automatic_revocation.thresholds.stolen]
actions = ["refresh_token.reused"]
count = 2
window = "1d"
per = "subject"
revoke = "subject"
"""
PAGE = DOCS / "automatic-revocation.md"


@dataclass
class Cluster:
    """Two nodes with one policy file."""

    nodes: list[Node]
    policies: Path

    async def crash(self) -> None:
        """Kill all nodes at once, and start them again."""
        await asyncio.gather(*(asyncio.to_thread(node.kill) for node in self.nodes))
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes))


@pytest.fixture
def cluster(database_url: str, tmp_path: Path) -> Iterator[Cluster]:
    policies = tmp_path / "policies.toml"
    policies.write_text(STRICT)
    settings = {
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        "TOKEN_SERVICE_POLICY_FILE": str(policies),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    with nodes(2, settings) as found:
        yield Cluster(found, policies)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a fresh database for each test: another test's rules would revoke its sessions, too."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'token_service.db'}"
        return
    server = request.getfixturevalue("postgres_server")
    url = server.create_database()
    yield url
    server.drop_database(url)


both = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


async def acts(api: Api) -> list[audit_pb.AuditEvent]:
    """Return what automatic revocation did."""
    stub: Any = audit_service_pb2_grpc.AuditServiceStub(api.channel)
    found: list[audit_pb.AuditEvent] = []
    token = ""
    while True:
        page = await stub.ListAuditEvents(
            audit_pb.ListAuditEventsRequest(actor="automatic-revocation", page_size=200, page_token=token),
            timeout=TIMEOUT,
        )
        found += page.events
        token = page.next_page_token
        if not token:
            return found


@both
async def test_kill_9_of_all_nodes_neither_loses_nor_doubles_a_revocation(cluster: Cluster) -> None:
    async with Api(cluster.nodes[0].grpc_address) as api, Api(cluster.nodes[1].grpc_address) as other:
        issued = await asyncio.gather(*(api.issue(f"user-{number}") for number in range(450)))
        assert await acts(api) == []
        rewrite(cluster.policies, STRICT + AGE)  # the nodes read the file again
        await eventually(lambda: acts(other))
        await cluster.crash()
        ids = {each.session_id for each in issued}
        await eventually(lambda: _all_revoked(other, ids), interval=0.3)
        found = await acts(api)
        assert max(Counter(each.target.session_id for each in found).values()) == 1
        # The node that is asked may not have read the last entries of the log yet.
        await eventually(lambda: _head_is(api, len(ids)))
        assert {each.fields["cause"] for each in found} == {"age"}
        assert {each.fields["rule"] for each in found} == {"classifications.internal"}
        numbers: list[Any] = [(each.fields["limit"], each.fields["measured"]) for each in found]
        assert {limit for limit, _ in numbers} == {1}
        assert all(measured >= 1 for _, measured in numbers)
        assert await other.why(issued[7].access_token, consistency=STRONG) == "REVOKED"


async def _head_is(api: Api, number: int) -> bool:
    return sequence(await api.confirm("", "")) == number


async def _all_revoked(api: Api, ids: set[str]) -> bool:
    return {each.target.session_id for each in await acts(api)} == ids


@both
async def test_a_threshold_acts_once_although_all_nodes_are_killed(cluster: Cluster) -> None:
    rewrite(cluster.policies, STRICT + STOLEN)
    async with Api(cluster.nodes[0].grpc_address) as api, Api(cluster.nodes[1].grpc_address) as other:
        kept = await api.issue("mallory's victim")
        unrelated = await api.issue("bystander")
        for number in range(2):
            stolen = await api.issue("mallory's victim")
            await api.refresh(stolen.refresh_token)
            assert (await refused(other.refresh(stolen.refresh_token))).reason == "REFRESH_TOKEN_REUSED"
            if number == 0:
                await cluster.crash()  # the count is in the audit trail
                assert await api.why(kept.access_token, consistency=STRONG) == ""
        await cluster.crash()
        await eventually(lambda: _is_revoked(api, kept.access_token))
        await cluster.crash()
        (act,) = await acts(other)
        assert (act.action, act.target.subject) == ("revoked", "mallory's victim")
        assert (act.fields["cause"], act.fields["rule"]) == ("threshold", "thresholds.stolen")
        assert (act.fields["limit"], act.fields["measured"]) == (2, 2)
        assert await other.why(unrelated.access_token, consistency=STRONG) == ""
        # A new login of the subject is not revoked by the events of before.
        again = await api.issue("mallory's victim")
        third = await api.issue("mallory's victim")
        await api.refresh(third.refresh_token)
        assert (await refused(other.refresh(third.refresh_token))).reason == "REFRESH_TOKEN_REUSED"
        assert await other.why(again.access_token, consistency=STRONG) == ""
        assert len(await acts(other)) == 1


async def _is_revoked(api: Api, token: str) -> bool:
    return await api.why(token, consistency=STRONG) == "REVOKED"


def test_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    page_steps = steps(PAGE.read_text(), "automatic")
    assert len(page_steps) == 3
    policies = tmp_path / "policies.toml"
    policies.write_text("")
    data = tmp_path / "data"
    settings = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_POLICY_FILE": str(policies)}
    with Node(env=settings, data_dir=data) as node:
        env = {**os.environ, "PATH": path_of_commands(), "TOKEN_SERVICE_TARGET": node.grpc_address}
        for step in page_steps:
            done = subprocess.run(
                ["bash", "-ec", step.code.replace(GRPC_ADDRESS, node.grpc_address)],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == step.shown, step.code


def test_the_rules_of_the_page_are_accepted() -> None:
    (text,) = re.findall(r"^```toml\n(.*?)\n```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    document = tomllib.loads(text)
    rules = parse_automatic_rules(document, parse_policy_book(document))
    assert set(rules.limits) == {"restricted", "confidential"}
    assert set(rules.thresholds) == {"stolen", "guessing"}
