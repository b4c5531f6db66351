"""`token-service webhooks` over gRPC."""

from __future__ import annotations

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.support.command_service import CommandService
from tests.unit.cli.remote.conftest import Run
from token_service.errors import WebhookNotFoundError
from token_service.v1 import event_service_pb2 as pb

ID = "wh_8d0f2b6c4e1a7395"
WEBHOOK = pb.Webhook(
    webhook_id=ID,
    url="https://hooks.example/x",
    description="Prod\x1b",
    types=[pb.EVENT_TYPE_REVOKED, pb.EVENT_TYPE_REFUSALS_REPORTED],
    etag="3",
    delivery=pb.WebhookDelivery(
        cursor="log:9",
        events_behind=4,
        attempts=2,
        next_attempt_time=Timestamp(seconds=1_800_000_060),
        failing_since=Timestamp(seconds=1_800_000_000),
        last_error="the receiver answered with status 500",
        dead_letters=1,
    ),
)


def test_create_shows_the_secret_once(run: Run, service: CommandService) -> None:
    service.answers["CreateWebhook"] = pb.CreateWebhookResponse(webhook=WEBHOOK, secret="whsec_abc")
    result = run(
        *("webhooks", "create", "https://hooks.example/x", "--type", "revoked"),
        *("--type", "validation.refusals_reported", "--category", "security", "--client-id", "web"),
    )
    assert result.exit_code == 0
    assert "secret: whsec_abc" in result.stdout
    (request,) = service.requests["CreateWebhook"]
    assert request.webhook == pb.Webhook(
        url="https://hooks.example/x",
        types=[pb.EVENT_TYPE_REVOKED, pb.EVENT_TYPE_REFUSALS_REPORTED],
        categories=["security"],
        client_id="web",
    )
    result = run("webhooks", "create", "https://hooks.example/x", "-o", "json")
    assert json.loads(result.stdout)["secret"] == "whsec_abc"


def test_unknown_type_is_refused_with_a_suggestion(run: Run) -> None:
    result = run("webhooks", "create", "https://hooks.example/x", "--type", "revokd")
    assert result.exit_code == 2
    assert "revokd: no such type" in result.stderr
    assert "revoked" in result.stderr


def test_webhooks_are_shown_with_the_state_of_their_deliveries(run: Run, service: CommandService) -> None:
    service.answers["GetWebhook"] = pb.GetWebhookResponse(webhook=WEBHOOK)
    service.answers["ListWebhooks"] = pb.ListWebhooksResponse(
        webhooks=[WEBHOOK, pb.Webhook(webhook_id="wh_2", disabled=True), pb.Webhook(webhook_id="wh_3")]
    )
    shown = run("webhooks", "get", ID).stdout
    assert "\x1b" not in shown
    for line in (
        "state          failing",
        "types          revoked validation.refusals_reported",
        "last error     the receiver answered with status 500",
        "attempts       2",
        "next attempt   2027-01-15T08:01:00Z",
    ):
        assert line in shown
    rows = run("webhooks", "list").stdout.splitlines()
    assert [row.split()[:2] for row in rows[1:]] == [
        [ID, "failing"],
        ["wh_2", "disabled"],
        ["wh_3", "active"],
    ]


def test_update_names_what_it_changes(run: Run, service: CommandService) -> None:
    service.answers["UpdateWebhook"] = pb.UpdateWebhookResponse(webhook=WEBHOOK)
    run("webhooks", "update", ID, "--enable", "--all-types", "--description", "", "--etag", "3")
    (request,) = service.requests["UpdateWebhook"]
    assert sorted(request.update_mask.paths) == ["description", "disabled", "types"]
    assert request.webhook == pb.Webhook(webhook_id=ID, etag="3")
    run("webhooks", "update", ID, "--disable")
    assert service.requests["UpdateWebhook"][1].webhook.disabled
    assert run("webhooks", "update", ID).exit_code == 2
    assert run("webhooks", "update", ID, "--all-types", "--type", "revoked").exit_code == 2


def test_secret_is_rotated_with_an_overlap(run: Run, service: CommandService) -> None:
    service.answers["RotateWebhookSecret"] = pb.RotateWebhookSecretResponse(webhook=WEBHOOK, secret="whsec_b")
    assert "secret: whsec_b" in run("webhooks", "rotate-secret", ID, "--overlap", "90s").stdout
    (request,) = service.requests["RotateWebhookSecret"]
    assert request.overlap.seconds == 90


def test_delete_asks_first(run: Run, service: CommandService) -> None:
    service.answers["DeleteWebhook"] = pb.DeleteWebhookResponse()
    assert run("webhooks", "delete", ID).exit_code == 1
    assert not service.requests["DeleteWebhook"]
    assert run("webhooks", "delete", ID, "--yes").exit_code == 0
    assert service.requests["DeleteWebhook"] == [pb.DeleteWebhookRequest(webhook_id=ID)]


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (pb.TestWebhookResponse(delivered=True, status=204), 0, "the receiver took it with status 204"),
        (
            pb.TestWebhookResponse(status=500, error="status 500"),
            6,
            "the receiver did not take it: status 500",
        ),
        (WebhookNotFoundError(), 4, ""),
    ],
)
def test_outcome_of_a_test_is_the_exit_code(
    run: Run, service: CommandService, answer: object, code: int, text: str
) -> None:
    service.answers["TestWebhook"] = answer
    result = run("webhooks", "test", ID)
    assert (result.exit_code, result.stdout.strip()) == (code, text)


def test_dead_letters_are_listed_and_redelivered(run: Run, service: CommandService) -> None:
    letter = pb.DeadLetter(
        event_id="a:1:7", type=pb.EVENT_TYPE_CLIENT_CREATED, attempts=8, last_error="no answer in 10 seconds"
    )
    service.answers["ListDeadLetters"] = pb.ListDeadLettersResponse(dead_letters=[letter])
    service.answers["RedeliverDeadLetters"] = pb.RedeliverDeadLettersResponse(requested=1)
    assert "client.created" in run("webhooks", "dead-letters", ID).stdout
    assert run("webhooks", "redeliver", ID, "a:1:7").stdout == "1 dead letters are sent once more\n"
    (request,) = service.requests["RedeliverDeadLetters"]
    assert request.event_ids == ["a:1:7"]


def test_replay_needs_one_place(run: Run, service: CommandService) -> None:
    service.answers["ReplayWebhook"] = pb.ReplayWebhookResponse(cursor="log:4")
    assert run("webhooks", "replay", ID).exit_code == 2
    assert run("webhooks", "replay", ID, "--cursor", "log:4", "--since", "1h").exit_code == 2
    assert run("webhooks", "replay", ID, "--cursor", "log:4").stdout == "the events after log:4 are sent\n"
    run("webhooks", "replay", ID, "--since", "2027-01-15T08:00:00Z")
    first, second = service.requests["ReplayWebhook"]
    assert first.cursor == "log:4"
    assert second.time.seconds == 1_800_000_000
