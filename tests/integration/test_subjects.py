"""Export and erasure of a subject at real nodes, with `kill -9` in between."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.calls import STRONG, TIMEOUT, Api, Failure, refused
from tests.integration.nodes import Node, nodes
from tests.integration.tour import DOCS, GRPC_ADDRESS, steps
from tests.support.deadline import eventually
from tests.support.preloaded import path_of_commands
from token_service.v1 import (
    admin_service_pb2 as pb,
    audit_service_pb2 as audit_pb,
    audit_service_pb2_grpc,
    token_pb2,
)
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub

SETTINGS = {"TOKEN_SERVICE_AUDIT_ROUTINE": "sql", "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}


@pytest.fixture(scope="module")
def pair(database_url: str) -> Iterator[list[Node]]:
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": database_url, **SETTINGS}) as found:
        yield found


def command(node: Node, *arguments: str) -> str:
    env = {**os.environ, "PATH": path_of_commands(), "TOKEN_SERVICE_TARGET": node.grpc_address}
    done = subprocess.run(
        ["token-service", *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def exported(node: Node, subject: str) -> dict[str, Any]:
    text = await asyncio.to_thread(command, node, "subjects", "export", "--subject", subject)
    document: dict[str, Any] = json.loads(text)
    return document


async def erase(api: Api, subject: str, **fields: Any) -> pb.EraseSubjectResponse:
    stub: Any = AdminServiceStub(api.channel)
    response: pb.EraseSubjectResponse = await stub.EraseSubject(
        pb.EraseSubjectRequest(subject=subject, **fields), timeout=TIMEOUT
    )
    return response


async def events(api: Api, **fields: Any) -> list[audit_pb.AuditEvent]:
    stub: Any = audit_service_pb2_grpc.AuditServiceStub(api.channel)
    page = await stub.ListAuditEvents(
        audit_pb.ListAuditEventsRequest(page_size=200, **fields), timeout=TIMEOUT
    )
    return list(page.events)


async def issue(api: Api, subject: str) -> Any:
    context = token_pb2.ClientContext(ip_address="192.0.2.77", user_agent="Firefox of the person")
    return await api.issue(subject, client_context=context, custom_claims={"team": "blue"})


async def test_export_has_what_the_service_holds_about_the_subject(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as api, Api(pair[1].grpc_address) as other:
        tokens = [await issue(api, "erin"), await issue(other, "erin")]
        await issue(api, "frank")
        await api.revoke(session_id=tokens[0].session_id, comment="lost phone")
        await eventually(lambda: _count(api, 2, subject="erin", actions=["token.issued"]))
        document = await exported(pair[1], "erin")
        assert document["schema_version"] == 1
        sessions = {each["session_id"]: each for each in document["sessions"]}
        assert set(sessions) == {each.session_id for each in tokens}
        assert sessions[tokens[0].session_id]["state"] == "revoked"
        live = sessions[tokens[1].session_id]
        assert (live["state"], live["custom_claims"]) == ("active", {"team": "blue"})
        assert live["created_from"] == {"ip_address": "192.0.2.77", "user_agent": "Firefox of the person"}
        assert [each["action"] for each in document["events"]] == ["token.issued"] * 2
        (revoked,) = document["events_of_sessions"]
        assert (revoked["action"], revoked["comment"]) == ("revoked", "lost phone")
        text = json.dumps(document)
        assert "frank" not in text
        for secret in (tokens[1].refresh_token, tokens[1].access_token):
            assert secret not in text
        # The audit trail tells who exported, once for each page.
        pages = await events(api, subject="erin", actions=["subject.exported"])
        assert len(pages) == 7
        assert {each.fields["section"] for each in pages} >= {"sessions", "events"}


async def _count(api: Api, number: int, **fields: Any) -> bool:
    return len(await events(api, **fields)) == number


async def test_erasure_survives_kill_9_and_no_token_lives_again(pair: list[Node]) -> None:
    node, witness = pair
    async with Api(node.grpc_address) as api, Api(witness.grpc_address) as other:
        kept = await issue(api, "heidi")

        # The node is killed after it has revoked, and before it has erased. A kill that comes later shows nothing: it is
        # made again, with another subject.
        for late in range(20):
            subject = f"grace-{late}"
            tokens = [await issue(api, subject) for _ in range(3)]
            await eventually(partial(_count, other, 3, subject=subject, actions=["token.issued"]))
            assert (await erase(api, subject, dry_run=True)).sessions == 3
            assert await api.why(tokens[0].access_token, consistency=STRONG) == ""
            call = asyncio.create_task(erase(api, subject, comment="the person asked"))
            await eventually(partial(_count, other, 1, subject=subject, actions=["revoked"]))
            await asyncio.to_thread(node.kill)
            try:
                await call
            except grpc.aio.AioRpcError:
                break
            await asyncio.to_thread(node.start)
        else:
            raise AssertionError("no kill came between the revocation and the erasure")
        for each in tokens:
            assert await other.why(each.access_token, consistency=STRONG) == "REVOKED"
        assert (await erase(other, subject, dry_run=True)).sessions == 3

        # The other node erases a part and is killed in its turn.
        part = await erase(other, subject)
        assert (part.sessions, bool(part.next_page_token)) == (3, True)
        await asyncio.to_thread(witness.kill)
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(witness.start)

        # A command without the page token of the killed node finishes the work, and can be repeated.
        await asyncio.to_thread(command, node, "subjects", "erase", "--subject", subject, "--yes")
        left = await erase(api, subject, dry_run=True)
        assert (left.sessions, left.events, left.device_requests) == (0, 0, 0)
        await asyncio.to_thread(command, witness, "subjects", "erase", "--subject", subject, "--yes")

        for each in tokens:
            assert await api.why(each.access_token, consistency=STRONG) == "REVOKED"
            assert (await _refresh_reason(api, each.refresh_token)) == "REFRESH_TOKEN_INVALID"
        assert await api.why(kept.access_token, consistency=STRONG) == ""

        document = await exported(node, subject)
        assert [document[each] for each in ("sessions", "events", "events_of_sessions")] == [[], [], []]
        assert "192.0.2.77" not in json.dumps(document)
        found = await events(api)
        assert all("the person asked" not in str(each) for each in found)
        erased = [each for each in found if each.action == "subject.erased"]
        assert all("grace" not in str(each) for each in erased)
        erased = [each for each in erased if each.target.id == erased[0].target.id]
        assert (erased[0].fields["sessions"], erased[-1].fields["sessions"]) == (0, 0)
        stub: Any = audit_service_pb2_grpc.AuditServiceStub(api.channel)
        verified = await stub.VerifyAuditTrail(audit_pb.VerifyAuditTrailRequest(), timeout=TIMEOUT)
        assert verified.intact, verified.findings
        assert verified.erased >= 6
        # A new login begins new data.
        again = await issue(api, subject)
        assert await api.why(again.access_token, consistency=STRONG) == ""


async def _refresh_reason(api: Api, token: str) -> str:
    failure: Failure = await refused(api.refresh(token))
    return failure.reason


async def test_a_page_token_of_another_subject_erases_nothing(pair: list[Node]) -> None:
    async with Api(pair[0].grpc_address) as api:
        await issue(api, "ivan")
        await issue(api, "judy")
        part = await erase(api, "ivan")
        failure = await refused(erase(api, "judy", page_token=part.next_page_token))
        assert set(failure.violations) == {"page_token"}
        assert (await erase(api, "judy", dry_run=True)).sessions == 1


def test_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    page_steps = steps((DOCS / "subjects.md").read_text(), "subjects")
    assert len(page_steps) == 2
    data = tmp_path / "data"
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}, data_dir=data) as node:
        env = {**os.environ, "PATH": path_of_commands(), "TOKEN_SERVICE_DATA_DIR": str(data)}
        for step in page_steps:
            code = step.code.replace(GRPC_ADDRESS, node.grpc_address)
            done = subprocess.run(
                ["bash", "-ec", code],
                cwd=tmp_path,
                env=env,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout == step.shown, step.code
