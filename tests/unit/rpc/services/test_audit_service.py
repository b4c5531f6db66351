"""AuditService over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.unit.core.node import SYSTEM
from tests.unit.rpc.serving import Served, refused, serving
from token_service.core.subscribers.validations import ValidationReport
from token_service.v1 import audit_service_pb2 as pb, client_service_pb2 as client_pb, token_service_pb2
from token_service.v1.audit_service_pb2_grpc import AuditServiceStub
from token_service.v1.client_service_pb2_grpc import ClientServiceStub


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def audit(served: Served) -> Any:
    return AuditServiceStub(served.channel)


def events_of(answer: pb.ExplainRevocationResponse) -> list[pb.AuditEvent]:
    return [each.event for each in answer.explanations]


async def revoke(served: Served, **fields: Any) -> None:
    await served.tokens.RevokeToken(token_service_pb2.RevokeTokenRequest(**fields))


async def test_events_are_listed_by_filter_and_page(served: Served) -> None:
    for subject in ("alice", "bob", "alice"):
        await revoke(served, subject=subject, comment=f"{subject} left")
    page = await audit(served).ListAuditEvents(
        pb.ListAuditEventsRequest(subject="alice", actions=["revoked"], page_size=1)
    )
    (event,) = page.events
    assert (event.action, event.category, event.outcome) == ("revoked", "security", "success")
    assert (event.actor.kind, event.actor.name, event.actor.proof) == ("caller", "anybody", "none")
    assert (event.target.kind, event.target.id, event.comment) == ("subject", "alice", "alice left")
    assert event.fields["cursor"].endswith(":3")
    rest = await audit(served).ListAuditEvents(
        pb.ListAuditEventsRequest(subject="alice", page_size=1, page_token=page.next_page_token)
    )
    assert ([each.fields["cursor"][-2:] for each in rest.events], rest.next_page_token) == ([":1"], "")
    nothing = pb.ListAuditEventsRequest(until=Timestamp(seconds=1))
    assert not (await audit(served).ListAuditEvents(nothing)).events


async def test_wrong_conditions_are_named(served: Served) -> None:
    request = pb.ListAuditEventsRequest(actions=["revoke"], page_size=201, page_token="!", subject="a\0b")
    failure = await refused(audit(served).ListAuditEvents(request))
    assert failure.code == "INVALID_ARGUMENT"
    assert set(failure.fields) == {"actions[0]", "page_size", "page_token", "subject"}


async def test_verification_counts_events_and_lists_findings(served: Served) -> None:
    await revoke(served, subject="alice")
    store = served.node.stores.audit
    answer = await audit(served).VerifyAuditTrail(pb.VerifyAuditTrailRequest())
    events = len(store.by_place)
    assert (answer.intact, answer.events, answer.chains, list(answer.findings)) == (True, events, 1, [])
    del store.by_place["memory", events]
    answer = await audit(served).VerifyAuditTrail(pb.VerifyAuditTrailRequest())
    assert not answer.intact
    assert [f.problem for f in answer.findings] == [f"the events {events} to {events} are missing"]


async def test_explanation_of_a_session_includes_its_subject_client_and_everything(served: Served) -> None:
    await revoke(served, subject="alice", comment="before the session")
    issued = await served.issue()
    await revoke(served, subject="bob")
    await revoke(served, subject="alice", comment="left")
    await revoke(served, client_id="web")
    await revoke(served, client_id="other")
    await revoke(served, everything=True)
    request = pb.ExplainRevocationRequest(session_id=issued.session_id)
    answer = await audit(served).ExplainRevocation(request)
    assert {(each.target.kind, each.target.id, each.comment) for each in events_of(answer)} == {
        ("everything", "", ""),
        ("client", "web", ""),
        ("subject", "alice", "left"),
    }


@pytest.mark.parametrize("end", ["DisableClient", "DeleteClient"])
async def test_end_of_a_client_explains_the_end_of_its_sessions(served: Served, end: str) -> None:
    clients: Any = ClientServiceStub(served.channel)
    await clients.CreateClient(client_pb.CreateClientRequest(client=client_pb.Client(client_id="web")))
    session_id = (await served.issue()).session_id
    request = getattr(client_pb, f"{end}Request")(client_id="web", comment="stolen secret")
    await getattr(clients, end)(request)
    targets: list[dict[str, Any]] = [{"session_id": session_id}, {"client_id": "web"}]
    for target in targets:
        answer = await audit(served).ExplainRevocation(pb.ExplainRevocationRequest(**target))
        (event,) = events_of(answer)
        assert event.action == {"DisableClient": "client.disabled", "DeleteClient": "client.deleted"}[end]
        assert (event.actor.name, event.comment) == ("anybody", "stolen secret")


async def test_explanation_of_each_other_target(served: Served) -> None:
    issued = await served.issue()
    spare = await served.node.key_manager.prepare(SYSTEM, None)
    for field, value in (
        ("session_id", issued.session_id),
        ("subject", "alice"),
        ("client_id", "web"),
        ("token_id", "t-1"),
        ("key_id", spare.key_id),
        ("everything", True),
    ):
        target: dict[str, Any] = {field: value}
        request = pb.ExplainRevocationRequest(**target)
        before = len((await audit(served).ExplainRevocation(request)).explanations)
        await revoke(served, **target)
        events = events_of(await audit(served).ExplainRevocation(request))
        assert len(events) == before + 1, field
        assert {each.action for each in events} == {"revoked"}


async def test_explanation_tells_by_when_each_subscriber_had_the_revocation(served: Served) -> None:
    node = served.node
    for name in ("early", "late"):
        node.subscribers.connect(name)
    await revoke(served, subject="alice")
    node.subscribers.confirm("early", 1)
    await node.core.sampler.sample()
    request = pb.ExplainRevocationRequest(subject="alice")
    (explanation,) = (await audit(served).ExplainRevocation(request)).explanations
    assert [each.subscriber for each in explanation.arrivals] == ["early"]
    seen = explanation.arrivals[0].time
    assert seen.ToNanoseconds() > 0
    node.subscribers.confirm("early", 2)
    node.subscribers.confirm("late", 2)
    await node.core.sampler.sample()
    (explanation,) = (await audit(served).ExplainRevocation(request)).explanations
    assert [each.subscriber for each in explanation.arrivals] == ["early", "late"]
    assert explanation.arrivals[0].time == seen


async def test_explanation_has_what_each_subscriber_reported(served: Served) -> None:
    node = served.node
    for name in ("reporting", "silent"):
        node.subscribers.connect(name)
    await revoke(served, subject="alice")
    for name in ("reporting", "silent"):
        node.subscribers.confirm(name, 1)
    report = ValidationReport(client_version="python/9", validated=5, refusals=[("REVOKED", 2)])
    node.core.validations.add("reporting", "gateway", report)
    await node.core.sampler.sample()
    request = pb.ExplainRevocationRequest(subject="alice")
    (explanation,) = (await audit(served).ExplainRevocation(request)).explanations
    reporting, silent = explanation.arrivals
    assert (reporting.client_version, reporting.validated) == ("python/9", 5)
    assert dict(reporting.refusals) == {"REVOKED": 2}
    assert (silent.subscriber, silent.client_version, dict(silent.refusals)) == ("silent", "", {})


async def test_reuse_of_a_refresh_token_explains_the_end_of_its_session(served: Served) -> None:
    issued = await served.issue()
    node = served.node
    second = await node.refresh(issued.refresh_token)
    await node.refresh(second.refresh_token)
    failure = await refused(
        served.tokens.RefreshToken(
            token_service_pb2.RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="web")
        )
    )
    assert failure.reason == "REFRESH_TOKEN_REUSED"
    answer = await audit(served).ExplainRevocation(pb.ExplainRevocationRequest(session_id=issued.session_id))
    (event,) = events_of(answer)
    assert (event.action, event.target.subject) == ("refresh_token.reused", "alice")


@pytest.mark.parametrize("fields", [{}, {"everything": False}, {"session_id": "x"}, {"subject": ""}], ids=str)
async def test_missing_or_malformed_target_is_refused(served: Served, fields: dict[str, Any]) -> None:
    failure = await refused(audit(served).ExplainRevocation(pb.ExplainRevocationRequest(**fields)))
    assert failure.code == "INVALID_ARGUMENT"
