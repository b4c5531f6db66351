"""The policies and the access part of AdminService over a real channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.rpc.serving import Served, refused, serving
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AuthMethod, ClientMetadata
from token_service.core.policies.rights import May, Permission, Right
from token_service.v1 import admin_service_pb2 as pb
from token_service.v1.admin_service_pb2_grpc import AdminServiceStub


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def admin(served: Served) -> Any:
    return AdminServiceStub(served.channel)


def changes(**values: str) -> pb.PolicyChanges:
    return pb.PolicyChanges(
        values=[pb.PolicyValue(path=f"internal.{name}", value=value) for name, value in values.items()]
    )


async def test_a_change_answers_its_revision_and_differences_and_is_shown_with_its_author(
    served: Served,
) -> None:
    changed = await admin(served).SetPolicies(pb.SetPoliciesRequest(changes=changes(rotate="false")))
    assert changed.revision == 1
    assert list(changed.differences) == [
        pb.PolicyDifference(path="internal.rotate", before="true", after="false")
    ]
    found = await admin(served).GetPolicies(pb.GetPoliciesRequest())
    assert pb.PolicyValue(path="internal.rotate", value="false", source="override") in found.values
    assert pb.PolicyValue(path="internal.max_retries", value="100", source="default") in found.values
    assert (found.revision, found.HasField("update_time"), found.default_classification) == (
        1,
        True,
        "internal",
    )
    assert found.updated_by
    reset = await admin(served).ResetPolicies(pb.ResetPoliciesRequest(paths=["internal.rotate"], revision=1))
    assert (reset.revision, len(reset.differences)) == (2, 1)


async def test_a_wrong_change_is_refused_with_a_violation_for_each_mistake(served: Served) -> None:
    request = pb.SetPoliciesRequest(changes=changes(rotate="5", idle_timeout='"1 week"'))
    failure = await refused(admin(served).SetPolicies(request))
    assert failure.reason == "INVALID_REQUEST"
    assert set(failure.fields) == {"changes.values[0]", "changes.values[1]"}


async def test_a_change_of_another_revision_is_refused_with_the_one_in_force(served: Served) -> None:
    await admin(served).SetPolicies(pb.SetPoliciesRequest(changes=changes(rotate="false")))
    request = pb.SetPoliciesRequest(changes=changes(rotate="true"), revision=9)
    failure = await refused(admin(served).SetPolicies(request))
    assert (failure.code, failure.reason, failure.metadata["revision"]) == (
        "ABORTED",
        "POLICIES_CHANGED",
        "1",
    )


async def test_a_check_needs_a_candidate(served: Served) -> None:
    failure = await refused(admin(served).CheckPolicies(pb.CheckPoliciesRequest()))
    assert set(failure.fields) == {"candidate"}
    answer = await admin(served).CheckPolicies(pb.CheckPoliciesRequest(overrides=changes(rotate="5")))
    assert (answer.accepted, len(answer.problems)) == (False, 1)
    answer = await admin(served).CheckPolicies(pb.CheckPoliciesRequest(file="default = 'public'"))
    assert answer.accepted


async def test_access_is_explained_with_the_rights_of_registered_clients(served: Served) -> None:
    core = served.node.core
    right = Right(permission=Permission.ISSUE, clients=("web",), may=(May.OTHER_SUBJECTS,))
    for client_id, metadata in {
        "login": ClientMetadata(
            token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC, rights=(right,), grant_types=()
        ),
        "mesh": ClientMetadata(
            token_endpoint_auth_method=AuthMethod.TLS_CLIENT_AUTH,
            tls_client_auth_san_uri="spiffe://example.org/mesh",
            grant_types=(),
        ),
    }.items():
        await core.client_administration.create(Caller.system(), client_id, metadata, 0.0)
    ask = admin(served).ExplainAccess

    issue = pb.ExplainAccessRequest(names=["login"], method="IssueToken", client_id="web", subject="alice")
    answer = await ask(issue)
    assert (answer.allowed, answer.permission, list(answer.entries)) == (True, "issue", ["client:login"])
    assert [list(each.clients) for each in answer.rights] == [["web"]]
    issue.client_id = "billing"
    answer = await ask(issue)
    assert (answer.allowed, "clients excludes 'billing'" in answer.reason) == (False, True)

    own = pb.ExplainAccessRequest(names=["spiffe://example.org/mesh"], method="RevokeToken", client_id="mesh")
    answer = await ask(own)
    assert (answer.allowed, list(answer.entries)) == (True, ["client:mesh"])
    await core.client_administration.disable(Caller.system(), "login", 1.0)
    issue.client_id = "web"
    answer = await ask(issue)
    assert (answer.allowed, list(answer.rights)) == (False, [])
    assert "client login is not active and has no rights" in answer.reason
    unknown = await ask(pb.ExplainAccessRequest(names=["nobody"], method="RefreshToken"))
    assert (unknown.allowed, list(unknown.entries)) == (False, [])


async def test_a_wrong_question_about_access_names_its_field(served: Served) -> None:
    ask = admin(served).ExplainAccess
    failure = await refused(ask(pb.ExplainAccessRequest(names=["a"], method="IsueToken")))
    assert "did you mean IssueToken?" in failure.fields["method"]
    failure = await refused(ask(pb.ExplainAccessRequest()))
    assert set(failure.fields) == {"names", "method"}
    failure = await refused(
        ask(pb.ExplainAccessRequest(names=["a"], method="IssueToken", token_types=["opaque"], uses=["x"]))
    )
    assert set(failure.fields) == {"token_types[0]", "uses[0]"}
