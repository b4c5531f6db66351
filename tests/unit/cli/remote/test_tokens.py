"""`token-service tokens` at a fake service."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitedError,
    RefreshTokenReusedError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from token_service.v1 import admin_service_pb2, token_pb2, token_service_pb2 as pb

# {"alg":"ES256","typ":"at+jwt","kid":"k1"} . {"sub":"alice","exp":1767225600,"note":"\u001b[2J"}
JWT = (
    "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsxIn0"
    ".eyJzdWIiOiJhbGljZSIsImV4cCI6MTc2NzIyNTYwMCwibm90ZSI6Ilx1MDAxYlsySiJ9"
    ".c2lnbmF0dXJlc2lnbmF0dXJl"
)


def issued(**fields: Any) -> pb.IssueTokenResponse:
    response = pb.IssueTokenResponse(
        access_token="aaa.bbb.ccc", token_type="Bearer", scopes=["read"], **fields
    )
    response.access_token_expire_time.FromSeconds(1767225600)
    return response


def test_issue_sends_every_option(run: Run, service: CommandService) -> None:
    service.answers["IssueToken"] = issued(refresh_token="rt_1", session_id="s1")
    result = run(
        "tokens", "issue", "--subject", "alice", "--client-id", "web", "--audience", "api", "--scope", "read",
        "--type", "access", "--type", "id", "--access-token-ttl", "90s", "--acr", "high", "--amr", "pwd",
        "--claims", '{"a": 1}', "--nonce", "n", "--request-id", "r", "--device-id", "d",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = pb.IssueTokenRequest(
        subject="alice", client_id="web", audience=["api"], scopes=["read"], nonce="n", request_id="r", device_id="d",
        token_types=[token_pb2.TOKEN_TYPE_ACCESS, token_pb2.TOKEN_TYPE_ID],
        auth_context=token_pb2.AuthContext(acr="high", amr=["pwd"]),
    )  # fmt: skip
    expected.access_token_ttl.FromSeconds(90)
    expected.custom_claims.update({"a": 1})
    assert service.requests["IssueToken"] == [expected]
    assert "access_token   aaa.bbb.ccc\nexpires        2026-01-01T00:00:00Z\n" in result.stdout


def test_issue_prints_one_token_for_scripts(run: Run, service: CommandService) -> None:
    service.answers["IssueToken"] = issued()
    arguments = ("tokens", "issue", "--subject", "alice", "--client-id", "web", "--print")
    assert run(*arguments, "access_token").stdout == "aaa.bbb.ccc\n"
    missing = run(*arguments, "refresh_token")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no refresh_token was issued" in missing.stderr


def test_json_has_the_names_of_the_proto(run: Run, service: CommandService) -> None:
    service.answers["ValidateToken"] = pb.ValidateTokenResponse(
        active=True, claims=token_pb2.Claims(subject="alice", scopes=["read"])
    )
    shown = json.loads(run("tokens", "validate", "-o", "json", stdin=JWT).stdout)
    assert shown["active"] is True
    assert shown["claims"]["client_id"] == ""
    assert (shown["claims"]["subject"], shown["claims"]["scopes"]) == ("alice", ["read"])


def test_validate_answers_no_with_its_own_exit_code(run: Run, service: CommandService) -> None:
    service.answers["ValidateToken"] = pb.ValidateTokenResponse(reason=pb.INVALID_REASON_REVOKED)
    result = run("tokens", "validate", "--audience", "api", "--scope", "read", "--strong", stdin=f"{JWT}\n")
    assert (result.exit_code, result.stdout) == (6, "active  no\nreason  REVOKED\n")
    (request,) = service.requests["ValidateToken"]
    assert (request.token, request.audience, list(request.required_scopes)) == (JWT, "api", ["read"])
    assert request.consistency == pb.CONSISTENCY_STRONG
    shown = run("tokens", "validate", "-o", "json", stdin=JWT)
    assert (shown.exit_code, json.loads(shown.stdout)["active"]) == (6, False)


def test_token_comes_from_a_file_an_argument_or_standard_input(
    run: Run, service: CommandService, tmp_path: Path
) -> None:
    service.answers["ValidateToken"] = pb.ValidateTokenResponse(active=True)
    file = tmp_path / "token"
    file.write_text(f"{JWT}\n")
    for arguments, stdin in ((["--token-file", str(file)], ""), ([JWT], ""), (["-"], JWT), ([], JWT)):
        assert run("tokens", "validate", *arguments, stdin=stdin).exit_code == 0
    assert [each.token for each in service.requests["ValidateToken"]] == [JWT] * 4
    assert run("tokens", "validate", stdin="").exit_code == 2
    assert run("tokens", "validate", stdin="two words").exit_code == 2
    assert run("tokens", "validate", JWT, "--token-file", str(file)).exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "part"),
    [
        (CallerUnauthenticatedError(), 3, "this command has no credentials: set TOKEN_SERVICE_CLIENT_ID"),
        (
            PermissionDeniedError(metadata={"permission": "validate"}),
            3,
            "give the caller the permission validate",
        ),
        (SessionNotFoundError(), 4, ""),
        (StoreUnavailableError(retry_after=2.0), 5, "try again in 2s"),
        (RateLimitedError(retry_after=1.5), 5, "try again in 1500ms"),
        (InvalidRequestError.of("token", "is \x1b[2J wrong"), 1, "token: is \\u001b[2J wrong"),
    ],
)
def test_failure_has_an_exit_code_and_says_what_to_do(
    run: Run, service: CommandService, error: Any, code: int, part: str
) -> None:
    service.answers["ValidateToken"] = error
    result = run("tokens", "validate", stdin=JWT)
    assert (result.exit_code, result.stdout) == (code, "")
    assert part in result.stderr
    assert JWT not in result.stderr


def test_refused_refresh_token_is_the_answer_no(run: Run, service: CommandService) -> None:
    service.answers["RefreshToken"] = RefreshTokenReusedError()
    result = run("tokens", "refresh", "--client-id", "web", stdin="rt_secret")
    assert result.exit_code == 6
    assert "rt_secret" not in result.output


def test_refresh_shows_the_next_tokens(run: Run, service: CommandService) -> None:
    service.answers["RefreshToken"] = pb.RefreshTokenResponse(refresh_token="rt_next")
    arguments = (
        "tokens",
        "refresh",
        "--client-id",
        "web",
        "--scope",
        "a",
        "--audience",
        "b",
        "--device-id",
        "d",
    )
    result = run(*arguments, "--print", "refresh_token", stdin="rt_old")
    assert (result.exit_code, result.stdout) == (0, "rt_next\n")
    assert service.requests["RefreshToken"] == [
        pb.RefreshTokenRequest(
            refresh_token="rt_old", client_id="web", scopes=["a"], audience=["b"], device_id="d"
        )
    ]


def test_unreachable_service_and_a_missing_target(run: Run) -> None:
    result = run("tokens", "validate", "--target", "127.0.0.1:1", stdin=JWT)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "check that the target 127.0.0.1:1 is the gRPC address" in result.stderr
    result = run("tokens", "validate", "--target", "", stdin=JWT)
    assert (result.exit_code, "no service is named" in result.stderr) == (2, True)


def test_slow_service_is_unavailable(run: Run, service: CommandService) -> None:
    import threading

    over = threading.Event()
    service.answers["ValidateToken"] = lambda _: over.wait(30) and pb.ValidateTokenResponse(active=True)
    result = run("tokens", "validate", "--timeout", "100ms", stdin=JWT)
    over.set()
    assert (result.exit_code, "give a longer --timeout" in result.stderr) == (5, True)


def test_credentials_of_a_connection_are_sent(run: Run, service: CommandService, tmp_path: Path) -> None:
    file = tmp_path / "token-service/connections.toml"
    file.parent.mkdir()
    file.write_text(f'[test]\ntarget = "{service.target}"\nclient_id = "ops"\nclient_secret = "s"\n')
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)
    service.answers["ValidateToken"] = pb.ValidateTokenResponse(active=True)
    result = run("tokens", "validate", "--connection", "test", stdin=JWT, TARGET=None)
    assert result.exit_code == 0, result.output
    assert service.metadata["authorization"] == "Basic b3BzOnM="
    service.answers["ValidateToken"] = CallerUnauthenticatedError()
    refused = run("tokens", "validate", "--connection", "test", stdin=JWT, TARGET=None)
    assert (refused.exit_code, "did not accept the credentials" in refused.stderr) == (3, True)


def test_decode_shows_the_content_without_the_signature(run: Run) -> None:
    result = run("tokens", "decode", stdin=JWT, TARGET=None)
    assert result.exit_code == 0
    assert result.stderr.startswith("NOT VERIFIED")
    assert result.stdout.splitlines() == [
        "unverified at+jwt",
        "  header.alg  ES256",
        "  header.typ  at+jwt",
        "  header.kid  k1",
        "  claims.sub  alice",
        "  claims.exp  1767225600 (2026-01-01T00:00:00Z)",
        "  claims.note  \\u001b[2J",
    ]
    shown = json.loads(run("tokens", "decode", "-o", "json", stdin=JWT).stdout)
    assert shown["verified"] is False
    assert (shown["header"]["kid"], shown["claims"]["sub"]) == ("k1", "alice")
    assert JWT.split(".")[2] not in json.dumps(shown) + result.output


@pytest.mark.parametrize("token", ["rt_x1", "st_x1", "tspat_x1", "tscs_x1"])
def test_decode_names_the_kind_of_an_opaque_token_and_hides_it(run: Run, token: str) -> None:
    result = run("tokens", "decode", stdin=token + "abcdefgh")
    assert result.exit_code == 0
    assert "unverified " in result.stdout
    assert "x1abcdefgh" not in result.output


@pytest.mark.parametrize(
    ("token", "part"),
    [("hunter2", "this is no token"), ("a.b.c", "is malformed"), ("a.b.c.d.e", "is encrypted")],
)
def test_decode_refuses_other_text_without_repeating_it(run: Run, token: str, part: str) -> None:
    result = run("tokens", "decode", stdin=token)
    assert (result.exit_code, part in result.stderr, token in result.output) == (1, True, False)


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["-"], {"token": JWT}),
        (["--token-id", "t"], {"token_id": "t"}),
        (["--session", "s"], {"session_id": "s"}),
        (["--subject", "alice"], {"subject": "alice"}),
        (["--client", "web"], {"client_id": "web"}),
        (["--key", "k"], {"key_id": "k"}),
        (["--everything", "--yes"], {"everything": True}),
    ],
)
def test_revoke_sends_its_one_target(
    run: Run, service: CommandService, arguments: list[str], target: dict[str, Any]
) -> None:
    service.answers["RevokeToken"] = pb.RevokeTokenResponse(cursor="e:7")
    result = run("tokens", "revoke", *arguments, "--reason", "compromised", "--comment", "why", stdin=JWT)
    assert (result.exit_code, result.stdout) == (0, "revoked  yes\ncursor   e:7\n"), result.output
    assert service.requests["RevokeToken"] == [
        pb.RevokeTokenRequest(reason=pb.REVOCATION_REASON_COMPROMISED, comment="why", **target)
    ]


@pytest.mark.parametrize("arguments", [[], ["--subject", "a", "--client", "b"], ["-", "--everything"]])
def test_revoke_needs_one_target(run: Run, service: CommandService, arguments: list[str]) -> None:
    result = run("tokens", "revoke", *arguments, stdin=JWT)
    assert (result.exit_code, "give one of TOKEN" in result.stderr) == (2, True)
    assert not service.requests


def test_everything_is_revoked_only_after_a_yes(run: Run, service: CommandService) -> None:
    result = run("tokens", "revoke", "--everything", stdin="n\n")
    assert (result.exit_code, service.requests["RevokeToken"]) == (1, [])


def counts(connected: int, applied: int, silent: int = 0) -> pb.RevokeTokenResponse:
    return pb.RevokeTokenResponse(
        cursor=f"e:{7 + applied}",
        subscribers_connected=connected,
        subscribers_applied=applied,
        subscribers_silent=silent,
    )


def test_wait_revokes_once_and_then_only_waits(run: Run, service: CommandService) -> None:
    answers = iter([counts(3, 1), counts(3, 2), counts(3, 3)])
    service.answers["RevokeToken"] = lambda _: next(answers)
    result = run("tokens", "revoke", "--subject", "alice", "--wait", "60s")
    assert result.exit_code == 0
    assert result.stdout == "revoked at e:8\n3 of 3 connected validators have confirmed\n"
    first, *others = service.requests["RevokeToken"]
    assert (first.subject, first.wait.applied_by_all) == ("alice", True)
    assert [each.token for each in others] == ["-", "-"]
    waits = [each.wait.timeout.ToMilliseconds() for each in (first, *others)]
    assert waits == [250, 500, 1000]


def test_wait_without_all_confirmations_is_the_answer_no(run: Run, service: CommandService) -> None:
    service.answers["RevokeToken"] = counts(3, 2, silent=1)
    result = run("tokens", "revoke", "--subject", "alice", "--wait", "1ms", "-o", "json")
    assert result.exit_code == 6
    shown = json.loads(result.stdout)
    assert shown == {
        "cursor": "e:9",
        "subscribers_connected": 3,
        "subscribers_applied": 2,
        "subscribers_silent": 1,
    }


def test_ctrl_c_ends_the_wait_and_tells_that_the_revocation_is_in_force(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    answers = iter([counts(3, 1)])

    def call(*_: Any) -> Any:
        try:
            return next(answers)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("token_service.cli.waiting._call", call)
    result = run("tokens", "revoke", "--subject", "alice", "--wait", "60s")
    assert result.exit_code == 6
    assert result.stdout == "revoked at e:8\n1 of 3 connected validators have confirmed\n"


def test_dry_run_shows_what_it_would_reach_and_revokes_nothing(run: Run, service: CommandService) -> None:
    service.answers["PreviewRevocation"] = admin_service_pb2.PreviewRevocationResponse(
        target="subject alice", sessions=3, subjects=1, clients=["web"], clients_count=2, subscribers=5,
        warnings=["alice is logged out everywhere"],
    )  # fmt: skip
    result = run("tokens", "revoke", "--subject", "alice", "--dry-run")
    assert result.exit_code == 0
    assert "would revoke      subject alice\n" in result.stdout
    assert "clients           web and 1 more\n" in result.stdout
    assert "warning           alice is logged out everywhere\n" in result.stdout
    assert [each.subject for each in service.requests["PreviewRevocation"]] == ["alice"]
    assert "RevokeToken" not in service.requests


def test_call_that_the_service_lacks_is_reported(run: Run) -> None:
    result = run("tokens", "revoke", "--subject", "alice", "--dry-run")
    assert (result.exit_code, "does not have this call; update its nodes" in result.stderr) == (1, True)
