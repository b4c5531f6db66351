"""`token-service sessions` at a fake service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import SessionNotFoundError, StoreUnavailableError
from token_service.v1 import (
    admin_service_pb2 as admin_pb2,
    session_service_pb2 as pb,
    token_pb2,
    token_service_pb2,
)


def session(number: int, **fields: Any) -> pb.Session:
    found = pb.Session(
        session_id=f"s{number}", subject="alice", client_id="web", state=pb.SESSION_STATE_ACTIVE,
        last_used_from=token_pb2.ClientContext(ip_address="192.0.2.1"), **fields,
    )  # fmt: skip
    for name in ("create_time", "last_use_time", "absolute_expire_time"):
        getattr(found, name).FromSeconds(1767225600)
    return found


def test_list_reads_pages_up_to_the_limit(run: Run, service: CommandService) -> None:
    def page(request: pb.ListSessionsRequest) -> pb.ListSessionsResponse:
        start = int(request.page_token or 0)
        found = [session(start + number) for number in range(request.page_size)]
        return pb.ListSessionsResponse(sessions=found, next_page_token=str(start + request.page_size))

    service.answers["ListSessions"] = page
    result = run("sessions", "list", "--subject", "alice", "--active", "--limit", "201", "-o", "json")
    assert result.exit_code == 0, result.output
    assert [each["session_id"] for each in json.loads(result.stdout)] == [
        f"s{number}" for number in range(201)
    ]
    assert "There are more than 201" in result.stderr
    assert [
        (each.page_size, each.subject, each.active_only) for each in service.requests["ListSessions"]
    ] == [
        (200, "alice", True),
        (1, "alice", True),
    ]


def test_list_is_an_aligned_table(run: Run, service: CommandService) -> None:
    long = "x" * 100
    service.answers["ListSessions"] = pb.ListSessionsResponse(
        sessions=[session(1, device_id="d"), pb.Session(session_id="s2", subject=f"\x1b{long}")]
    )
    result = run("sessions", "list", "--client", "web")
    header, first, second = result.stdout.splitlines()
    assert header.split("  ")[0] == "SESSION ID"
    assert first.split() == ["s1", "active", "alice", "web", *["2026-01-01T00:00:00Z"] * 3, "192.0.2.1"]
    assert "\\u001b" + "x" * 53 + "…" in second
    assert {line.index(cell) for line, cell in ((header, "CLIENT"), (first, "web"))} == {
        header.index("CLIENT")
    }
    assert service.requests["ListSessions"][0].client_id == "web"
    shown = json.loads(run("sessions", "list", "--client", "web", "-o", "json").stdout)
    assert shown[1]["subject"] == f"\x1b{long}"


def test_list_needs_one_owner(run: Run) -> None:
    assert run("sessions", "list").exit_code == 2
    assert run("sessions", "list", "--subject", "a", "--client", "b").exit_code == 2


def test_get_shows_where_a_session_came_from_and_how_it_ended(run: Run, service: CommandService) -> None:
    found = session(
        1,
        revoke_reason=token_service_pb2.REVOCATION_REASON_LOGOUT,
        revoked_through=pb.REVOKED_THROUGH_SUBJECT,
        created_from=token_pb2.ClientContext(ip_address="192.0.2.7", user_agent="Firefox"),
    )
    found.revoke_time.FromSeconds(1767225600)
    service.answers["GetSession"] = pb.GetSessionResponse(session=found)
    lines = run("sessions", "get", "s1").stdout.splitlines()
    assert "started from     192.0.2.7 Firefox" in lines
    assert "reason           logout" in lines
    assert "revoked through  subject" in lines
    assert service.requests["GetSession"] == [pb.GetSessionRequest(session_id="s1")]
    service.answers["GetSession"] = SessionNotFoundError()
    assert run("sessions", "get", "s1").exit_code == 4


def test_count_says_how_exact_it_is(run: Run, service: CommandService) -> None:
    service.answers["CountSessions"] = pb.CountSessionsResponse(
        sessions=7,
        accuracy=pb.COUNT_ACCURACY_AT_LEAST,
        clients=[pb.ClientSessions(client_id="web", sessions=7)],
    )
    result = run("sessions", "count", "--client", "web", "--created-before", "2026-01-01")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split(maxsplit=1) == ["sessions", "at least 7"]
    expected = pb.SessionSelection(client_id="web")
    expected.created_before.FromSeconds(1767225600)
    assert [each.filter for each in service.requests["CountSessions"]] == [expected]
    refused = run("sessions", "count")
    assert (refused.exit_code, "give a condition" in refused.stderr) == (2, True)


def test_count_sends_every_condition(run: Run, service: CommandService) -> None:
    service.answers["CountSessions"] = pb.CountSessionsResponse()
    result = run(
        "sessions", "count", "--subject", "alice", "--client", "web", "--device", "phone", "--upstream", "corporate",
        "--created-after", "2026-01-01", "--created-before", "2026-01-02T00:00:00Z", "--last-used-before", "2026-01-03",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    where = pb.SessionSelection(subject="alice", client_id="web", device_id="phone", upstream="corporate")
    for number, name in enumerate(("created_after", "created_before", "last_used_before")):
        getattr(where, name).FromSeconds(1767225600 + 86_400 * number)
    assert service.requests["CountSessions"] == [pb.CountSessionsRequest(filter=where)]


def test_revoke_goes_on_until_every_part_is_done(run: Run, service: CommandService) -> None:
    parts = {"": ("a", "e:1"), "a": ("b", ""), "b": ("", "e:3")}

    def part(request: pb.RevokeSessionsRequest) -> pb.RevokeSessionsResponse:
        following, cursor = parts[request.page_token]
        return pb.RevokeSessionsResponse(sessions=500, next_page_token=following, cursor=cursor)

    service.answers["RevokeSessions"] = part
    arguments = (
        "sessions",
        "revoke",
        "--upstream",
        "corp",
        "--reason",
        "compromised",
        "--comment",
        "why",
        "--yes",
    )
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, "revoked 1500 sessions\n")
    assert {each.comment for each in service.requests["RevokeSessions"]} == {"why"}
    assert {each.filter.upstream for each in service.requests["RevokeSessions"]} == {"corp"}
    assert json.loads(run(*arguments, "-o", "json").stdout) == {"sessions": "1500", "cursor": "e:3"}


def test_interrupted_revocation_tells_the_number_of_revoked_sessions(
    run: Run, service: CommandService
) -> None:
    parts: Iterator[Any] = iter(
        [pb.RevokeSessionsResponse(sessions=500, next_page_token="a", cursor="e:1"), StoreUnavailableError()]
    )

    def part(_: object) -> pb.RevokeSessionsResponse:
        outcome = next(parts)
        if isinstance(outcome, StoreUnavailableError):
            raise outcome
        assert isinstance(outcome, pb.RevokeSessionsResponse)
        return outcome

    service.answers["RevokeSessions"] = part
    result = run("sessions", "revoke", "--upstream", "corp", "--yes")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "500 sessions are revoked. Repeat the command" in result.stderr


@pytest.mark.parametrize(("arguments", "stdin", "code"), [(["--dry-run"], "", 0), ([], "n\n", 1)])
def test_revoke_changes_nothing_in_a_dry_run_or_without_a_yes(
    run: Run, service: CommandService, arguments: list[str], stdin: str, code: int
) -> None:
    service.answers["RevokeSessions"] = pb.RevokeSessionsResponse(
        sessions=3, advice="revoke the subject instead"
    )
    result = run("sessions", "revoke", "--subject", "alice", *arguments, stdin=stdin)
    assert result.exit_code == code
    assert "revoke the subject instead" in result.output
    assert [each.dry_run for each in service.requests["RevokeSessions"]] == [True]


def test_preview_of_automatic_revocation_lists_the_rules(run: Run, service: CommandService) -> None:
    service.answers["PreviewAutomaticRevocation"] = admin_pb2.PreviewAutomaticRevocationResponse(
        rules=[
            admin_pb2.AutomaticRule(
                rule="classifications.restricted", cause="age", limit="8h", revokes="session", targets=7,
                accuracy=pb.COUNT_ACCURACY_AT_LEAST,
            ),
            admin_pb2.AutomaticRule(
                rule="thresholds.stolen", cause="threshold", limit="3 events of a subject within 10m",
                revokes="subject", accuracy=pb.COUNT_ACCURACY_EXACT, dry_run=True,
            ),
        ]
    )  # fmt: skip
    lines = run("sessions", "preview-rules").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "RULE",
        "classifications.restricted",
        "thresholds.stolen",
    ]
    assert lines[1].split()[1:] == ["age", "8h", "session", "at", "least", "7", "no"]
    assert lines[2].split()[-3:] == ["subject", "0", "yes"]
