"""`token-service revocations list` at a fake service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import PermissionDeniedError
from token_service.v1 import admin_service_pb2 as pb, token_service_pb2


def live(**fields: Any) -> pb.LiveRevocation:
    found = pb.LiveRevocation(comment="left", actor="caller:spiffe://prod/hr")
    found.revocation.CopyFrom(
        token_service_pb2.Revocation(reason=token_service_pb2.REVOCATION_REASON_COMPROMISED, **fields)
    )
    found.revocation.revoke_time.FromSeconds(1767225600)
    found.revocation.expire_time.FromSeconds(1767229500)
    return found


def test_entries_are_listed_with_actor_and_comment(run: Run, service: CommandService) -> None:
    service.answers["ListRevocations"] = pb.ListRevocationsResponse(
        revocations=[live(subject="alice"), live(everything=True)]
    )
    result = run("revocations", "list")
    assert result.exit_code == 0, result.output
    header, alice, everything = result.stdout.splitlines()
    assert header.split() == ["REVOKED", "TARGET", "ID", "REASON", "BY", "COMMENT", "ENDS"]
    assert alice.split() == [
        "2026-01-01T00:00:00Z", "subject", "alice", "compromised", "caller:spiffe://prod/hr", "left",
        "2026-01-01T01:05:00Z",
    ]  # fmt: skip
    assert everything.split()[1:3] == ["everything", "compromised"]
    assert service.requests["ListRevocations"] == [pb.ListRevocationsRequest(page_size=200)]


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (("--subject", "alice"), {"target": "subject", "id": "alice"}),
        (("--client", "web"), {"target": "client_id", "id": "web"}),
        (("--session", "s"), {"target": "session_id", "id": "s"}),
        (("--token-id", "j"), {"target": "token_id", "id": "j"}),
        (("--key", "k"), {"target": "key_id", "id": "k"}),
        (("--kind", "everything"), {"target": "everything"}),
        (("--reason", "logout"), {"reason": token_service_pb2.REVOCATION_REASON_LOGOUT}),
    ],
)
def test_options_become_conditions(
    run: Run, service: CommandService, options: tuple[str, ...], fields: dict[str, Any]
) -> None:
    service.answers["ListRevocations"] = pb.ListRevocationsResponse()
    assert run("revocations", "list", *options).exit_code == 0
    assert service.requests["ListRevocations"] == [pb.ListRevocationsRequest(page_size=200, **fields)]


def test_pages_are_followed_even_if_one_is_empty(run: Run, service: CommandService) -> None:
    pages = {
        "": pb.ListRevocationsResponse(next_page_token="1"),
        "1": pb.ListRevocationsResponse(revocations=[live(subject="alice")], next_page_token="2"),
        "2": pb.ListRevocationsResponse(revocations=[live(subject="bob")]),
    }
    service.answers["ListRevocations"] = lambda request: pages[request.page_token]
    result = run("revocations", "list", "-o", "json")
    assert [each["revocation"]["subject"] for each in json.loads(result.stdout)] == ["alice", "bob"]


def test_two_targets_are_refused_and_denials_have_their_exit_code(run: Run, service: CommandService) -> None:
    assert run("revocations", "list", "--subject", "a", "--kind", "key_id").exit_code == 2
    service.answers["ListRevocations"] = PermissionDeniedError("needs admin.read")
    assert run("revocations", "list").exit_code == 3
