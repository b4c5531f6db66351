"""The methods of EventService about webhooks, over a real channel."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.unit.rpc.serving import Served, refused, serving
from token_service.core.events.webhooks.webhook import MAX_WEBHOOKS, DeadLetter, DeliveryState
from token_service.v1 import event_service_pb2 as pb
from token_service.v1.event_service_pb2_grpc import EventServiceStub

URL = "https://hooks.example/x"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


def stub(served: Served) -> Any:
    return EventServiceStub(served.channel)


async def create(served: Served, **settings: Any) -> pb.CreateWebhookResponse:
    webhook = pb.Webhook(**{"url": URL, **settings})
    created: pb.CreateWebhookResponse = await stub(served).CreateWebhook(
        pb.CreateWebhookRequest(webhook=webhook)
    )
    return created


async def get(served: Served, webhook_id: str) -> pb.Webhook:
    answer = await stub(served).GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))
    webhook: pb.Webhook = answer.webhook
    return webhook


async def test_created_webhook_is_returned_with_its_secret_once(served: Served) -> None:
    settings = {
        "description": "Prod",
        "types": [pb.EVENT_TYPE_REVOKED],
        "categories": ["security"],
        "client_id": "web",
    }
    created = await create(served, **settings)
    assert len(b64decode(created.secret.removeprefix("whsec_"))) == 32
    webhook = await get(served, created.webhook.webhook_id)
    assert webhook == created.webhook
    assert (webhook.url, list(webhook.types), webhook.etag) == (URL, [pb.EVENT_TYPE_REVOKED], "1")
    listed = await stub(served).ListWebhooks(pb.ListWebhooksRequest())
    assert list(listed.webhooks) == [webhook]
    assert created.secret not in str(listed)
    (row,) = [row for row in served.node.stores.audit.by_place.values() if row.action == "webhook.created"]
    assert (row.target_kind, row.target) == ("webhook", webhook.webhook_id)
    assert created.secret not in repr(row)
    (entry,) = await served.node.stores.webhooks.list()
    assert created.secret not in repr(entry)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "https://hooks.example/" + "x" * 2048}, "url"),
        ({"types": [999]}, "types[0]"),
        ({"types": [1] * 65}, "types"),
        ({"categories": ["odd"]}, "categories[0]"),
        ({"client_id": "x" * 257}, "client_id"),
        ({"description": "x\n"}, "description"),
    ],
)
async def test_unusable_settings_are_refused(served: Served, settings: dict[str, Any], field: str) -> None:
    error = await refused(create(served, **settings))
    assert (error.reason, set(error.fields)) == ("INVALID_REQUEST", {field})
    assert await served.node.stores.webhooks.list() == []


async def test_number_of_webhooks_is_limited(served: Served) -> None:
    for _ in range(MAX_WEBHOOKS):
        await create(served)
    error = await refused(create(served))
    assert (error.reason, error.code) == ("OVERLOADED", "RESOURCE_EXHAUSTED")


async def test_update_changes_what_the_mask_names(served: Served) -> None:
    created = (await create(served, description="old", types=[pb.EVENT_TYPE_REVOKED])).webhook

    async def update(*paths: str, **fields: Any) -> pb.Webhook:
        webhook = pb.Webhook(webhook_id=created.webhook_id, **fields)
        request = pb.UpdateWebhookRequest(webhook=webhook, update_mask=FieldMask(paths=paths))
        answer = await stub(served).UpdateWebhook(request)
        changed: pb.Webhook = answer.webhook
        return changed

    changed = await update("types", "disabled", disabled=True, description="ignored", etag="1")
    assert (list(changed.types), changed.disabled, changed.description) == ([], True, "old")
    error = await refused(update("url", url="https://other.example/", etag="1"))
    assert (error.reason, error.code) == ("WEBHOOK_CHANGED", "ABORTED")
    for paths in ((), ("secret",), ("webhook_id",)):
        error = await refused(update(*paths))
        assert set(error.fields) == {"update_mask"}
    assert (await get(served, created.webhook_id)).url == URL


async def test_enabling_forgets_failed_attempts(served: Served) -> None:
    webhook_id = (await create(served, disabled=True)).webhook.webhook_id
    state = DeliveryState(sequence=9, attempts=2, due_time=1e9, failing_since=1e9, last_error="status 500")
    await served.node.stores.webhooks.note(webhook_id, state)
    delivery = (await get(served, webhook_id)).delivery
    assert (delivery.attempts, delivery.last_error) == (2, "status 500")
    request = pb.UpdateWebhookRequest(
        webhook=pb.Webhook(webhook_id=webhook_id), update_mask=FieldMask(paths=["disabled"])
    )
    delivery = (await stub(served).UpdateWebhook(request)).webhook.delivery
    assert not delivery.HasField("failing_since")
    assert (delivery.attempts, delivery.last_error) == (0, "")


async def test_rotation_keeps_one_replaced_secret(served: Served) -> None:
    created = await create(served)
    request = pb.RotateWebhookSecretRequest(webhook_id=created.webhook.webhook_id)
    secrets = {created.secret}
    for _ in range(2):
        rotated = await stub(served).RotateWebhookSecret(request)
        secrets.add(rotated.secret)
        (entry,) = await served.node.stores.webhooks.list()
        assert len(entry.webhook.secrets) == 2
        assert entry.webhook.secrets[0].expire_time is not None
        end = rotated.webhook.previous_secret_expire_time.seconds
        assert end == int(entry.webhook.secrets[0].expire_time)
        assert round(entry.webhook.secrets[0].expire_time - entry.webhook.update_time) == 86_400
    assert len(secrets) == 3
    request.overlap.CopyFrom(Duration())
    rotated = await stub(served).RotateWebhookSecret(request)
    assert not rotated.webhook.HasField("previous_secret_expire_time")
    request.overlap.CopyFrom(Duration(seconds=31 * 86_400))
    assert set((await refused(stub(served).RotateWebhookSecret(request))).fields) == {"overlap"}


async def test_unknown_webhook_is_not_found(served: Served) -> None:
    webhook_id = (await create(served)).webhook.webhook_id
    await stub(served).DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id))
    update = pb.UpdateWebhookRequest(
        webhook=pb.Webhook(webhook_id=webhook_id), update_mask=FieldMask(paths=["disabled"])
    )
    for call in (
        stub(served).GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id)),
        stub(served).UpdateWebhook(update),
        stub(served).DeleteWebhook(pb.DeleteWebhookRequest(webhook_id=webhook_id)),
        stub(served).ListDeadLetters(pb.ListDeadLettersRequest(webhook_id=webhook_id)),
        stub(served).ReplayWebhook(pb.ReplayWebhookRequest(webhook_id=webhook_id, time=Timestamp())),
        stub(served).TestWebhook(pb.TestWebhookRequest(webhook_id=webhook_id)),
    ):
        error = await refused(call)
        assert (error.reason, error.code) == ("WEBHOOK_NOT_FOUND", "NOT_FOUND")
        assert error.metadata == {"webhook_id": webhook_id}


async def test_dead_letters_come_in_pages_and_are_requested(served: Served) -> None:
    webhook_id = (await create(served)).webhook.webhook_id
    for sequence in (3, 5, 8):
        letter = DeadLetter(
            webhook_id=webhook_id,
            sequence=sequence,
            chain_id="node:1",
            position=sequence,
            type="revoked",
            attempts=8,
            last_error="status 500",
            create_time=1.0,
        )
        await served.node.stores.webhooks.bury(letter, 10)
    request = pb.ListDeadLettersRequest(webhook_id=webhook_id, page_size=2)
    page = await stub(served).ListDeadLetters(request)
    assert [each.event_id for each in page.dead_letters] == ["node:1:3", "node:1:5"]
    assert page.dead_letters[0].type == pb.EVENT_TYPE_REVOKED
    request.page_token = page.next_page_token
    page = await stub(served).ListDeadLetters(request)
    assert [each.event_id for each in page.dead_letters] == ["node:1:8"]
    assert not page.next_page_token
    request.page_token = "x"
    assert set((await refused(stub(served).ListDeadLetters(request))).fields) == {"page_token"}

    def redelivery(*event_ids: str) -> Any:
        wanted = pb.RedeliverDeadLettersRequest(webhook_id=webhook_id, event_ids=event_ids)
        return stub(served).RedeliverDeadLetters(wanted)

    assert (await redelivery("node:1:5", "node:1:4")).requested == 1
    assert (await redelivery()).requested == 3
    assert set((await refused(redelivery("node"))).fields) == {"event_ids[0]"}
    assert set((await refused(redelivery(*["a:1"] * 201))).fields) == {"event_ids"}


async def test_replay_takes_a_cursor_of_this_log_or_a_time(served: Served) -> None:
    created = (await create(served)).webhook
    head = await served.node.stores.events.head()

    def replay(**place: Any) -> Any:
        return stub(served).ReplayWebhook(pb.ReplayWebhookRequest(webhook_id=created.webhook_id, **place))

    assert (await replay(cursor=f"{head.epoch}:0")).cursor == f"{head.epoch}:0"
    assert (await replay(time=Timestamp(seconds=1))).cursor == f"{head.epoch}:0"
    for cursor in ("x", f"other:{head.sequence}", f"{head.epoch}:{head.sequence + 10**18}"):
        assert set((await refused(replay(cursor=cursor))).fields) == {"cursor"}
    assert set((await refused(replay())).fields) == {"from"}
    while (await served.node.stores.events.head()).sequence < 1:
        await served.node.stores.events.sequence(10)
    await served.node.stores.events.purge(1e12, 1)
    error = await refused(replay(cursor=f"{head.epoch}:0"))
    assert (error.reason, error.metadata) == ("EVENTS_EXPIRED", {"earliest_cursor": f"{head.epoch}:1"})
    assert (await replay(time=Timestamp(seconds=1))).cursor == f"{head.epoch}:1"
