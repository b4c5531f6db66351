"""The revocations part of AdminService, CountSessions and RevokeSessions over a real channel."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.rpc.serving import Served, refused, serving
from token_service.v1 import admin_service_pb2 as pb, session_service_pb2 as sessions_pb, token_service_pb2
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def admin(served: Served) -> Any:
    return AdminServiceStub(served.channel)


async def listed(served: Served, **fields: Any) -> pb.ListRevocationsResponse:
    return await admin(served).ListRevocations(pb.ListRevocationsRequest(**fields))


async def preview(served: Served, **fields: Any) -> pb.PreviewRevocationResponse:
    return await admin(served).PreviewRevocation(pb.PreviewRevocationRequest(**fields))


async def test_live_revocations_are_listed_with_comment_and_actor(served: Served) -> None:
    tokens = await served.issue()
    await served.revoke(token=tokens.refresh_token, comment="stolen", reason="REVOCATION_REASON_COMPROMISED")
    await served.revoke(subject="bob")
    await served.revoke(everything=True, comment="drill")
    page = await listed(served, page_size=2)
    everything, bob = page.revocations
    assert (everything.revocation.everything, everything.comment) == (True, "drill")
    assert (bob.revocation.subject, bob.actor) == ("bob", "caller:anybody")
    (session,) = (await listed(served, page_size=2, page_token=page.next_page_token)).revocations
    assert (session.revocation.session_id, session.comment) == (tokens.session_id, "stolen")
    assert session.revocation.reason == token_service_pb2.REVOCATION_REASON_COMPROMISED
    assert session.actor == "caller:anybody"
    by_id = await listed(served, target="subject", id="bob")
    assert [each.revocation.sequence for each in by_id.revocations] == [bob.revocation.sequence]
    assert not by_id.next_page_token
    by_reason = await listed(served, reason=token_service_pb2.REVOCATION_REASON_COMPROMISED)
    assert [each.comment for each in by_reason.revocations] == ["stolen"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"target": "user"}, {"target"}),
        ({"id": "alice"}, {"id"}),
        ({"target": "everything", "id": "x"}, {"id"}),
        ({"reason": 99}, {"reason"}),
        ({"page_size": 201, "page_token": "!"}, {"page_size", "page_token"}),
        ({"page_token": "AQ"}, {"page_token"}),
    ],
)
async def test_wrong_conditions_are_named(served: Served, fields: dict[str, Any], named: set[str]) -> None:
    failure = await refused(admin(served).ListRevocations(pb.ListRevocationsRequest(**fields)))
    assert failure.code == "INVALID_ARGUMENT"
    assert set(failure.fields) == named


async def test_preview_of_a_token_and_its_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    tokens = await served.issue()
    with caplog.at_level(logging.DEBUG):
        found = await preview(served, token=tokens.refresh_token)
        await preview(served, token=tokens.access_token)
    assert (found.target, found.sessions) == (f"session {tokens.session_id}", 1)
    assert (found.accuracy, list(found.clients), found.clients_count) == (1, ["web"], 1)
    assert found.tokens_expire_time.seconds > served.node.clock.now()
    for secret in (tokens.refresh_token, tokens.access_token):
        assert secret not in caplog.text
    assert (await served.validate(tokens.access_token)).active


async def test_preview_needs_a_target(served: Served) -> None:
    for request in (pb.PreviewRevocationRequest(), pb.PreviewRevocationRequest(everything=False)):
        failure = await refused(admin(served).PreviewRevocation(request))
        assert (failure.code, set(failure.fields)) == ("INVALID_ARGUMENT", {"target"})


async def test_preview_of_everything_warns(served: Served) -> None:
    await served.issue()
    found = await preview(served, everything=True)
    assert (found.target, found.sessions, found.subjects) == ("everything", 1, 1)
    assert "every session" in found.warnings[0]


async def test_preview_of_a_key_retirement(served: Served) -> None:
    active = served.node.keyring.signer().key_id
    served.node.subscribers.connect("api")
    request = pb.PreviewKeyRetirementRequest(key_id=active)
    found = await admin(served).PreviewKeyRetirement(request)
    assert not found.allowed
    assert found.problem
    assert (found.subscribers_without_successor, list(found.subscribers)) == (1, ["api"])
    assert found.tokens_expire_time.seconds > served.node.clock.now()
    for key_id, code in (("no-key", "NOT_FOUND"), ("", "INVALID_ARGUMENT")):
        request = pb.PreviewKeyRetirementRequest(key_id=key_id)
        assert (await refused(admin(served).PreviewKeyRetirement(request))).code == code


async def test_sessions_are_counted_and_revoked_by_filter(served: Served) -> None:
    tokens = [await served.issue() for _ in range(3)]
    other = await served.issue(client_id="app")
    chosen = sessions_pb.SessionSelection(subject="alice", client_id="web")
    counted = await served.sessions.CountSessions(sessions_pb.CountSessionsRequest(filter=chosen))
    assert (counted.sessions, counted.accuracy, counted.subjects, counted.clients_count) == (3, 1, 1, 1)
    assert [(each.client_id, each.sessions) for each in counted.clients] == [("web", 3)]
    assert counted.oldest_create_time.seconds > 0
    request = sessions_pb.RevokeSessionsRequest(filter=chosen, max_sessions=2, dry_run=True)
    dry = await served.sessions.RevokeSessions(request)
    assert (dry.sessions, dry.accuracy, dry.cursor, dry.next_page_token) == (3, 1, "", "")
    request.dry_run = False
    first = await served.sessions.RevokeSessions(request)
    request.page_token = first.next_page_token
    last = await served.sessions.RevokeSessions(request)
    assert (first.sessions, last.sessions, last.next_page_token) == (2, 1, "")
    assert last.cursor.endswith(":3")
    assert [(await served.validate(each.access_token)).active for each in tokens] == [False] * 3
    assert (await served.validate(other.access_token)).active


async def test_advice_names_the_better_call(served: Served) -> None:
    request = sessions_pb.RevokeSessionsRequest(filter={"subject": "alice"})
    assert "RevokeToken with this subject" in (await served.sessions.RevokeSessions(request)).advice


async def test_wrong_filters_are_named(served: Served) -> None:
    for call, request in (
        (served.sessions.CountSessions, sessions_pb.CountSessionsRequest()),
        (served.sessions.RevokeSessions, sessions_pb.RevokeSessionsRequest()),
    ):
        failure = await refused(call(request))
        assert (failure.code, set(failure.fields)) == ("INVALID_ARGUMENT", {"filter"})
    wrong = sessions_pb.CountSessionsRequest(filter={"created_after": {"seconds": 10**15}})
    assert set((await refused(served.sessions.CountSessions(wrong))).fields) == {"filter.created_after"}
