"""The policies commands, and the other commands that show the configuration of a running service."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import PoliciesChangedError
from token_service.v1 import admin_service_pb2 as pb, client_service_pb2 as clients_pb

IN_FORCE = pb.GetPoliciesResponse(
    values=[
        pb.PolicyValue(path="internal.access_token_ttl", value='"5m"', source="override"),
        pb.PolicyValue(path="internal.rotate", value="true", source="default"),
        pb.PolicyValue(path="public.rotate", value="false", source="file"),
    ],
    revision=4,
    updated_by="ops",
    problem="the file is older",
)
DIFFERENCE = pb.PolicyDifference(path="internal.rotate", before="true", after="false")


def lines(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_list_shows_values_sources_the_last_change_and_a_problem(service: CommandService, run: Run) -> None:
    service.answers["GetPolicies"] = IN_FORCE
    result = run("policies", "list")
    assert result.exit_code == 0
    assert lines(result.output) == [
        ["SETTING", "VALUE", "SOURCE"],
        ["internal.access_token_ttl", '"5m"', "override"],
        ["internal.rotate", "true", "default"],
        ["public.rotate", "false", "file"],
        ["revision", "4"],
        ["last", "change", "-", "by", "ops"],
        ["problem", "the", "file", "is", "older"],
    ]
    kept = json.loads(run("policies", "list", "--overrides", "-o", "json").output)
    assert ([each["path"] for each in kept["values"]], kept["revision"]) == (
        ["internal.access_token_ttl"],
        "4",
    )
    result = run("policies", "list", "--classification", "public")
    assert lines(result.output)[1] == ["public.rotate", "false", "file"]


def test_get_asks_for_the_client_or_shows_the_named_settings(service: CommandService, run: Run) -> None:
    service.answers["GetPolicies"] = IN_FORCE
    result = run("policies", "get", "public.rotate")
    assert lines(result.output)[1] == ["public.rotate", "false", "file"]
    assert run("policies", "get", "--client", "web", "--audience", "api").exit_code == 0
    assert service.requests["GetPolicies"][-1] == pb.GetPoliciesRequest(client_id="web", audience=["api"])
    for wrong in (
        ["policies", "get"],
        ["policies", "get", "x.rotate"],
        ["policies", "get", "a", "--client", "b"],
    ):
        assert run(*wrong).exit_code == 2


def test_set_sends_values_in_the_notation_of_the_policy_file(service: CommandService, run: Run) -> None:
    service.answers["SetPolicies"] = pb.SetPoliciesResponse(revision=5, differences=[DIFFERENCE])
    result = run(
        "policies",
        "set",
        "internal.access_token_ttl=5m",
        "internal.rotate=false",
        'internal.default_audience=["a"]',
        'internal.reuse_response=sub"ject',
        "internal.max_retries=7",
        "--revision",
        "4",
        "--comment",
        "INC-1",
    )
    assert result.exit_code == 0, result.output
    assert lines(result.output) == [
        ["the", "overrides", "have", "revision", "5"],
        ["SETTING", "BEFORE", "AFTER"],
        ["internal.rotate", "true", "false"],
    ]
    (request,) = service.requests["SetPolicies"]
    assert [each.value for each in request.changes.values] == [
        '"5m"',
        "false",
        '["a"]',
        '"sub\\"ject"',
        "7",
    ]
    assert (request.revision, request.comment) == (4, "INC-1")
    assert run("policies", "set", "internal.rotate").exit_code == 2


def test_a_change_of_another_revision_fails(service: CommandService, run: Run) -> None:
    service.answers["SetPolicies"] = PoliciesChangedError(metadata={"revision": "9"})
    result = run("policies", "set", "internal.rotate=false", "--revision", "4")
    assert (result.exit_code, "read them again" in result.output) == (1, True)


def test_reset_needs_settings_or_all(service: CommandService, run: Run) -> None:
    service.answers["ResetPolicies"] = pb.ResetPoliciesResponse(revision=6)
    assert run("policies", "reset").exit_code == 2
    assert run("policies", "reset", "internal.rotate", "--all").exit_code == 2
    assert "no value in force changes" in run("policies", "reset", "--all").output
    assert run("policies", "reset", "internal.rotate").exit_code == 0
    assert [list(each.paths) for each in service.requests["ResetPolicies"]] == [[], ["internal.rotate"]]


def test_diff_tells_differences_or_problems_and_its_answer_by_the_exit_code(
    service: CommandService, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "policies.toml"
    file.write_text("default = 'public'\n")
    service.answers["CheckPolicies"] = pb.CheckPoliciesResponse(accepted=True, differences=[DIFFERENCE])
    result = run("policies", "diff", "--file", str(file))
    assert (result.exit_code, lines(result.output)[-1]) == (0, ["internal.rotate", "true", "false"])
    assert service.requests["CheckPolicies"][-1].file == "default = 'public'\n"
    service.answers["CheckPolicies"] = pb.CheckPoliciesResponse(problems=["internal.x: no such setting"])
    result = run("policies", "diff", "internal.x=1")
    assert (result.exit_code, "internal.x: no such setting" in result.output) == (6, True)
    assert run("policies", "diff").exit_code == 2
    file.write_bytes(b"\xff")
    assert run("policies", "diff", "--file", str(file)).exit_code == 2


def test_config_shows_the_settings_of_the_running_node(service: CommandService, run: Run) -> None:
    service.answers["GetEffectiveConfiguration"] = pb.GetEffectiveConfigurationResponse(
        node_id="a:1",
        settings=[
            pb.EffectiveSetting(name="TOKEN_SERVICE_LOG_LEVEL", value="info", source="file", reloadable=True),
            pb.EffectiveSetting(name="TOKEN_SERVICE_WORKERS", value="1", source="default", pending_value="4"),
        ],
        reload_problem="not TOML",
    )
    result = run("config")
    assert result.exit_code == 0, result.output
    assert lines(result.output) == [
        ["SETTING", "VALUE", "SOURCE", "RELOADABLE", "NEEDS", "A", "RESTART"],
        ["TOKEN_SERVICE_LOG_LEVEL", "info", "file", "yes"],
        ["TOKEN_SERVICE_WORKERS", "1", "default", "no", "4"],
        ["node", "a:1"],
        ["last", "reload", "-"],
        ["problem", "not", "TOML"],
    ]
    assert json.loads(run("config", "-o", "json").output)["node_id"] == "a:1"


def test_access_is_explained_by_the_running_service(service: CommandService, run: Run) -> None:
    service.answers["ExplainAccess"] = pb.ExplainAccessResponse(
        allowed=True,
        reason="the caller has the permission issue",
        permission="issue",
        entries=["client:web", "a.example"],
        rights=[clients_pb.Right(permission="issue", clients=["web"], may=["other_subjects"])],
    )
    question = ("--caller", "web", "--call", "IssueToken", "--client", "web", "--with", "auth_context")
    result = run("access", "explain", *question)
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        [
            "allowed: the caller has the permission issue",
            "  from client web",
            '  from [callers."a.example"]',
            '  right: issue {"clients": ["web"], "may": ["other_subjects"]}',
        ],
    )
    assert service.requests["ExplainAccess"] == [
        pb.ExplainAccessRequest(
            names=["web"],
            method="IssueToken",
            client_id="web",
            subject="web",
            token_types=["access"],
            uses=["auth_context"],
        )
    ]
    service.answers["ExplainAccess"] = pb.ExplainAccessResponse(reason="no")
    assert run("access", "explain", *question).exit_code == 1
