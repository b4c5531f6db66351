"""`token-service subjects` at a fake service."""

from __future__ import annotations

import json
from typing import Any

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.core.administration.subjects.export import SECTIONS
from token_service.errors import StoreUnavailableError
from token_service.v1 import admin_service_pb2 as pb


def record(section: str, **members: Any) -> pb.SubjectRecord:
    found = pb.SubjectRecord(section=section)
    found.record.update(members)
    return found


def test_export_writes_one_document_of_all_pages_and_sections(run: Run, service: CommandService) -> None:
    pages = {
        "": pb.ExportSubjectResponse(
            records=[record("sessions", session_id="s1", refreshes=3, revoke_time=None)], next_page_token="a"
        ),
        "a": pb.ExportSubjectResponse(next_page_token="b"),
        "b": pb.ExportSubjectResponse(records=[record("sessions", session_id="s2")], next_page_token="c"),
        "c": pb.ExportSubjectResponse(records=[record("events", action="token.issued")]),
    }
    service.answers["ExportSubject"] = lambda request: pages[request.page_token]
    result = run("subjects", "export", "--subject", "al\x1bice", "--comment", "request 7")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document.pop("export_time").endswith("Z")
    assert document == {
        "schema_version": 1,
        "subject": "al\x1bice",
        **{name: [] for name in SECTIONS},
        "sessions": [{"session_id": "s1", "refreshes": 3, "revoke_time": None}, {"session_id": "s2"}],
        "events": [{"action": "token.issued"}],
    }
    assert list(document) == ["schema_version", "subject", *SECTIONS]
    assert [(each.subject, each.comment) for each in service.requests["ExportSubject"]] == [
        ("al\x1bice", "request 7")
    ] * 4


def test_export_of_an_unknown_subject_has_empty_sections(run: Run, service: CommandService) -> None:
    service.answers["ExportSubject"] = pb.ExportSubjectResponse()
    document = json.loads(run("subjects", "export", "--subject", "carol").stdout)
    assert {name: document[name] for name in SECTIONS} == {name: [] for name in SECTIONS}


def test_erase_asks_and_repeats_the_call_until_nothing_is_left(run: Run, service: CommandService) -> None:
    def erase(request: pb.EraseSubjectRequest) -> pb.EraseSubjectResponse:
        if request.dry_run:
            return pb.EraseSubjectResponse(sessions=3, events=9)
        done = len(request.page_token) + 1
        return pb.EraseSubjectResponse(
            sessions=done, events=3 * done, next_page_token="x" * done if done < 3 else ""
        )

    service.answers["EraseSubject"] = erase
    refused = run("subjects", "erase", "--subject", "alice", stdin="n\n")
    assert refused.exit_code == 1
    assert "erase 3 sessions and the personal fields of 9 audit events?" in refused.stderr
    assert [each.dry_run for each in service.requests["EraseSubject"]] == [True]
    service.requests.clear()
    result = run("subjects", "erase", "--subject", "alice", "--yes", "-o", "json")
    assert json.loads(result.stdout) == {"sessions": "3", "events": "9", "device_requests": "0"}
    assert [(each.dry_run, each.page_token) for each in service.requests["EraseSubject"]] == [
        (False, ""),
        (False, "x"),
        (False, "xx"),
    ]


def test_dry_run_erases_nothing(run: Run, service: CommandService) -> None:
    service.answers["EraseSubject"] = pb.EraseSubjectResponse(sessions=3, events=9, pending_logouts=1)
    result = run("subjects", "erase", "--subject", "alice", "--dry-run")
    assert result.stdout.splitlines()[1:] == [
        "sessions         3",
        "audit events     9",
        "device requests  0",
        "pending logouts  1",
    ]
    assert [each.dry_run for each in service.requests["EraseSubject"]] == [True]


def test_an_interrupted_erasure_says_to_repeat_the_command(run: Run, service: CommandService) -> None:
    service.answers["EraseSubject"] = StoreUnavailableError("the database is away")
    result = run("subjects", "erase", "--subject", "alice", "--yes")
    assert result.exit_code == 5
    assert "Repeat the command to erase the rest" in result.stderr
