"""`clients`, `keys`, `audit` and `explain-revocation` at a fake service: the same commands as on the database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import ClientNotFoundError, KeyNotFoundError
from token_service.v1 import (
    admin_service_pb2,
    audit_service_pb2,
    client_service_pb2,
    key_service_pb2,
    token_service_pb2,
)

TIME = "2026-01-01T00:00:00Z"
CLIENT = ParseDict(
    {
        "client_id": "web",
        "client_name": "Shop",
        "token_endpoint_auth_method": "TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC",
        "scopes": ["read"],
        "rights": [{"permission": "validate"}],
        "state": "CLIENT_STATE_DISABLED",
        "secrets": [{"secret_id": "s1", "create_time": TIME, "expire_time": TIME}],
        "create_time": TIME,
        "update_time": TIME,
        "etag": "7",
    },
    client_service_pb2.Client(),
)
KEY = ParseDict(
    {
        "key_id": "k1",
        "algorithm": "ES256",
        "state": "SIGNING_KEY_STATE_ACTIVE",
        "create_time": TIME,
        "activate_time": TIME,
        "provider": "local",
    },
    key_service_pb2.SigningKey(),
)
EVENT = ParseDict(
    {
        "chain_id": "n1",
        "position": 3,
        "time": TIME,
        "action": "revoked",
        "category": "security",
        "actor": {"kind": "caller", "name": "ops"},
        "target": {"kind": "subject", "id": "alice", "subject": "alice"},
        "outcome": "success",
        "comment": "left",
        "fields": {"cursor": "e:1", "count": 2},
    },
    audit_service_pb2.AuditEvent(),
)


def test_client_of_a_service_is_shown_like_one_of_the_database(run: Run, service: CommandService) -> None:
    service.answers["GetClient"] = client_service_pb2.GetClientResponse(client=CLIENT)
    shown = json.loads(run("clients", "get", "web", "-o", "json").stdout)
    assert shown["token_endpoint_auth_method"] == "client_secret_basic"
    assert (shown["state"], shown["etag"], shown["scopes"]) == ("disabled", "7", ["read"])
    assert [each["permission"] for each in shown["rights"]] == ["validate"]
    assert shown["secrets"] == [
        {"secret_id": "s1", "create_time": TIME, "expire_time": TIME, "last_use_time": None}
    ]
    assert run("clients", "get", "web").stdout.splitlines()[1].split() == [
        "web", "disabled", "client_secret_basic", "-", TIME, "Shop",
    ]  # fmt: skip


def test_create_sends_the_settings_and_shows_the_secret_once(run: Run, service: CommandService) -> None:
    service.answers["CreateClient"] = client_service_pb2.CreateClientResponse(
        client=CLIENT, client_secret="tscs_1"
    )
    result = run(
        "clients", "create", "--client-id", "web", "--scope", "read", "--secret-ttl", "30d",
        "--token-endpoint-auth-method", "client_secret_basic",
    )  # fmt: skip
    assert result.stdout.endswith("client_secret: tscs_1\n")
    (request,) = service.requests["CreateClient"]
    assert (request.client.client_id, list(request.client.scopes)) == ("web", ["read"])
    assert request.client.token_endpoint_auth_method == CLIENT.token_endpoint_auth_method
    assert (request.client.state, request.client.HasField("create_time")) == (0, False)
    assert request.secret_ttl.seconds == 30 * 86_400


def test_update_sends_only_what_changes(run: Run, service: CommandService) -> None:
    service.answers["UpdateClient"] = client_service_pb2.UpdateClientResponse(client=CLIENT)
    assert run("clients", "update", "web", "--client-name", "Shop", "--etag", "6").exit_code == 0
    (request,) = service.requests["UpdateClient"]
    assert list(request.update_mask.paths) == ["client_name"]
    assert (request.client.client_name, request.client.etag) == ("Shop", "6")


def test_other_client_commands_call_their_method(run: Run, service: CommandService) -> None:
    pb = client_service_pb2
    service.answers |= {
        "ListClients": lambda request: pb.ListClientsResponse(
            clients=[CLIENT], next_page_token="" if request.page_token else "2"
        ),
        "RotateClientSecret": pb.RotateClientSecretResponse(client=CLIENT, client_secret="tscs_2"),
        "DisableClient": pb.DisableClientResponse(client=CLIENT),
        "EnableClient": pb.EnableClientResponse(client=CLIENT),
        "DeleteClient": pb.DeleteClientResponse(),
    }
    assert len(json.loads(run("clients", "list", "-o", "json").stdout)) == 2
    assert "tscs_2" in run("clients", "rotate-secret", "web", "--overlap", "90s").stdout
    assert run("clients", "disable", "web", "--comment", "why", "--etag", "7").exit_code == 0
    assert run("clients", "enable", "web").exit_code == 0
    assert run("clients", "delete", "web", "--yes").exit_code == 0
    assert service.requests["RotateClientSecret"][0].overlap.seconds == 90
    assert service.requests["DisableClient"] == [
        pb.DisableClientRequest(client_id="web", comment="why", etag="7")
    ]
    assert service.requests["DeleteClient"] == [pb.DeleteClientRequest(client_id="web")]


@pytest.mark.parametrize(
    ("method", "error", "command", "part"),
    [
        (
            "GetClient",
            ClientNotFoundError(),
            ["clients", "get", "x"],
            "`token-service clients list` shows all",
        ),
        (
            "RetireSigningKey",
            KeyNotFoundError(),
            ["keys", "retire", "x"],
            "`token-service keys list` shows all",
        ),
    ],
)
def test_unknown_object_has_its_exit_code(
    run: Run, service: CommandService, method: str, error: Exception, command: list[str], part: str
) -> None:
    service.answers[method] = error
    result = run(*command)
    assert (result.exit_code, part in result.stderr) == (4, True)


def test_key_commands_call_their_method(run: Run, service: CommandService) -> None:
    pb = key_service_pb2
    service.answers |= {
        "ListSigningKeys": pb.ListSigningKeysResponse(signing_keys=[KEY]),
        "PrepareSigningKey": pb.PrepareSigningKeyResponse(signing_key=KEY),
        "ActivateSigningKey": pb.ActivateSigningKeyResponse(signing_key=KEY),
        "RetireSigningKey": pb.RetireSigningKeyResponse(signing_key=KEY),
        "RevokeSigningKey": pb.RevokeSigningKeyResponse(signing_key=KEY),
    }
    shown = json.loads(run("keys", "list", "-o", "json").stdout)
    assert shown == [
        {
            "key_id": "k1", "algorithm": "ES256", "state": "active", "provider": "local", "wrapping_key_id": None,
            "certificates": None, "create_time": TIME, "activate_time": TIME, "retire_time": None, "revoke_time": None,
        }
    ]  # fmt: skip
    assert run("keys", "list", "--state", "retired", "-o", "id").stdout == ""
    assert run("keys", "prepare", "--algorithm", "RS256", "--rsa-bits", "4096", "-o", "id").stdout == "k1\n"
    assert run("keys", "activate", "k1", "--force").exit_code == 0
    assert run("keys", "retire", "k1").exit_code == 0
    assert run("keys", "revoke", "k1", "--comment", "why").exit_code == 0
    assert service.requests["PrepareSigningKey"] == [
        pb.PrepareSigningKeyRequest(algorithm="RS256", rsa_bits=4096)
    ]
    assert service.requests["ActivateSigningKey"] == [pb.ActivateSigningKeyRequest(key_id="k1", force=True)]
    assert service.requests["RevokeSigningKey"] == [pb.RevokeSigningKeyRequest(key_id="k1", comment="why")]


def test_revoked_key_waits_for_the_validators(run: Run, service: CommandService) -> None:
    service.answers["ListSigningKeys"] = key_service_pb2.ListSigningKeysResponse(signing_keys=[KEY])
    service.answers["RevokeToken"] = token_service_pb2.RevokeTokenResponse(
        subscribers_connected=2, subscribers_applied=1
    )
    result = run("keys", "revoke", "k1", "--wait", "0.001")
    assert (result.exit_code, result.stderr) == (6, "1 of 2 connected subscribers have confirmed\n")
    assert service.requests["RevokeToken"][0].key_id == "k1"
    assert run("keys", "revoke", "k2", "--wait", "0.001").exit_code == 4


@pytest.mark.parametrize(("allowed", "code"), [(True, 0), (False, 6)])
def test_dry_run_of_a_retirement_answers_yes_or_no(
    run: Run,
    service: CommandService,
    allowed: bool,  # noqa: FBT001
    code: int,
) -> None:
    service.answers["PreviewKeyRetirement"] = admin_service_pb2.PreviewKeyRetirementResponse(
        allowed=allowed, problem="" if allowed else "no other key is announced", subscribers=["shop"]
    )
    result = run("keys", "retire", "k1", "--dry-run")
    assert (result.exit_code, "no other key" in result.stdout, "shop" in result.stdout) == (
        code,
        not allowed,
        True,
    )
    assert "RetireSigningKey" not in service.requests


def test_event_of_a_service_is_shown_like_one_of_the_database(run: Run, service: CommandService) -> None:
    service.answers["ListAuditEvents"] = audit_service_pb2.ListAuditEventsResponse(
        events=[EVENT], next_page_token="n"
    )
    result = run(
        "audit", "list", "--subject", "alice", "--action", "revoked", "--since", "2026-01-01", "--limit", "1"
    )
    assert result.stdout.splitlines()[1].split() == [
        TIME, "revoked", "caller:ops", "subject:alice", "alice", "success", "left",
    ]  # fmt: skip
    assert "--page-token n" in result.stderr
    (request,) = service.requests["ListAuditEvents"]
    assert (request.subject, list(request.actions), request.since.seconds) == (
        "alice",
        ["revoked"],
        1767225600,
    )
    (shown,) = json.loads(run("audit", "list", "-o", "json").stdout)
    assert shown["fields"] == {"cursor": "e:1", "count": 2}
    assert (shown["time"], shown["actor_name"], shown["target_id"]) == (1767225600.0, "ops", "alice")
    assert "mac" not in shown


@pytest.mark.parametrize(("intact", "code"), [(True, 0), (False, 1)])
def test_verify_lets_the_service_verify(run: Run, service: CommandService, intact: bool, code: int) -> None:  # noqa: FBT001
    response = audit_service_pb2.VerifyAuditTrailResponse(intact=intact, events=5, chains=2)
    if not intact:
        response.findings.add(place="n1:3", problem="was changed")
    service.answers["VerifyAuditTrail"] = response
    result = run("audit", "verify")
    assert result.exit_code == code
    assert ("n1:3" in result.stdout, "5 events in 2 chains" in result.stdout) == (not intact, True)


def test_exported_checkpoint_needs_the_database(run: Run, tmp_path: Any) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text("{}")
    result = run("audit", "verify", "--checkpoint", str(file))
    assert (result.exit_code, "--checkpoint needs the database" in result.stderr) == (2, True)


def test_explanation_of_a_service(run: Run, service: CommandService) -> None:
    arrival = audit_service_pb2.RevocationArrival(subscriber="shop")
    arrival.time.FromSeconds(1767225600)
    service.answers["ExplainRevocation"] = audit_service_pb2.ExplainRevocationResponse(
        explanations=[audit_service_pb2.RevocationExplanation(event=EVENT, arrivals=[arrival])]
    )
    result = run("explain-revocation", "--subject", "alice")
    assert result.exit_code == 0
    assert f"the event of {TIME} had reached shop by {TIME}" in result.stdout
    assert service.requests["ExplainRevocation"][0].subject == "alice"
    assert run("explain-revocation", "--everything").exit_code == 0
    assert service.requests["ExplainRevocation"][1].everything is True


def test_setting_beside_a_target_is_refused(run: Run) -> None:
    result = run("keys", "list", "--database-url", "postgresql://db/t")
    assert result.exit_code == 2
    assert "--database-url is a setting of the service" in result.stderr


def test_empty_target_means_the_database(run: Run, tmp_path: Any) -> None:
    result = run("keys", "list", "--target", "", "--data-dir", str(tmp_path / "data"))
    assert (result.exit_code, "run `token-service migrate`" in result.stderr) == (2, True)
