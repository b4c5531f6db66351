"""Webhooks of real nodes, with a receiver in another process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from tests.integration.calls import Api, Failure
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.webhook_receiver import HANGS, WebhookReceiver
from token_service.v1 import client_service_pb2 as clients, event_service_pb2 as pb
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.event_service_pb2_grpc import EventServiceStub

CREATED = [pb.EVENT_TYPE_CLIENT_CREATED]


class Site:
    """Nodes on one database, and a receiver."""

    def __init__(self, made: list[Node], apis: list[Api], receiver: WebhookReceiver, database: Path) -> None:
        self.nodes = made
        self.apis = apis
        self.receiver = receiver
        self.database = database
        self.secrets: list[str] = []

    def stub(self, node: int = 0) -> Any:
        return EventServiceStub(self.apis[node].channel)

    async def create(self, path: str, **settings: Any) -> str:
        """Create a webhook for events about created clients; return its id."""
        webhook = pb.Webhook(url=self.receiver.url(path), **{"types": CREATED, **settings})
        created = await self.stub().CreateWebhook(pb.CreateWebhookRequest(webhook=webhook))
        self.secrets.append(created.secret)
        return str(created.webhook.webhook_id)

    async def get(self, webhook_id: str) -> pb.Webhook:
        answer = await self.stub().GetWebhook(pb.GetWebhookRequest(webhook_id=webhook_id))
        webhook: pb.Webhook = answer.webhook
        return webhook

    async def register(self, *names: str, node: int = 0) -> None:
        """Create clients, one after another."""
        stub = ClientServiceStub(self.apis[node].channel)
        for name in names:
            await stub.CreateClient(clients.CreateClientRequest(client=clients.Client(client_id=name)))

    async def got(self, path: str, *targets: str) -> None:
        """Wait until a path got exactly events about these targets."""
        await eventually(lambda: self.receiver.targets(path) == list(targets))


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@asynccontextmanager
async def site(count: int, directory: Path, receiver: WebhookReceiver, **env: str) -> AsyncIterator[Site]:
    database = directory / "token_service.db"
    settings = {
        "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{database}",
        "TOKEN_SERVICE_ALLOW_PRIVATE_WEBHOOK_URL": "true",
        "TOKEN_SERVICE_WEBHOOK_ATTEMPTS": "2",
        "TOKEN_SERVICE_WEBHOOK_RETRY_TIME": "1s",
        **env,
    }
    with nodes(count, settings) as made:
        apis = [Api(node.grpc_address) for node in made]
        try:
            yield Site(made, apis, receiver, database)
        finally:
            for api in apis:
                await api.channel.close()


async def test_signed_events_arrive_in_order_and_bad_receivers_delay_no_other(
    tmp_path: Path, receiver: WebhookReceiver
) -> None:
    async with site(2, tmp_path, receiver) as found:
        for path, status in (("slow", HANGS), ("broken", 500), ("moved", 307), ("gone", 410)):
            receiver.answer(path, status)
        ids = {path: await found.create(path) for path in ("good", "slow", "broken", "moved", "gone")}
        names = [f"client-{number}" for number in range(20)]
        await found.register(*names[:10])
        await found.register(*names[10:], node=1)
        await found.got("good", *names)
        for delivery in receiver.deliveries("good"):
            payload = delivery.verified(found.secrets[0])
            assert payload["type"] == "client.created"
            assert delivery.headers["webhook-id"] == payload["data"]["id"]
        assert set(receiver.targets("slow")) == {names[0]}

        # The redirect is not followed, and the two events that were not taken twice are dead letters.
        await eventually(lambda: len(receiver.deliveries("moved")) >= 4)
        assert receiver.deliveries("inside") == []
        assert receiver.targets("moved")[:4] == [names[0], names[0], names[1], names[1]]

        async def is_disabled() -> bool:
            return (await found.get(ids["gone"])).disabled

        await eventually(is_disabled)
        assert receiver.targets("gone") == names[:1]
        assert "410" in (await found.get(ids["gone"])).disable_reason

        async def buried() -> bool:
            return (await found.get(ids["broken"])).delivery.dead_letters == 20

        await eventually(buried)
        first = pb.ListDeadLettersRequest(webhook_id=ids["broken"], page_size=15)
        page = await found.stub(1).ListDeadLetters(first)
        assert len(page.dead_letters) == 15
        letter = page.dead_letters[0]
        assert (letter.type, letter.attempts) == (pb.EVENT_TYPE_CLIENT_CREATED, 2)
        assert "500" in letter.last_error
        receiver.answer("broken", 200)
        before = len(receiver.deliveries("broken"))
        one = pb.RedeliverDeadLettersRequest(webhook_id=ids["broken"], event_ids=[letter.event_id])
        assert (await found.stub(1).RedeliverDeadLetters(one)).requested == 1
        await eventually(lambda: receiver.targets("broken")[before:] == names[:1])
        every = pb.RedeliverDeadLettersRequest(webhook_id=ids["broken"])
        assert (await found.stub(1).RedeliverDeadLetters(every)).requested == 19
        await eventually(lambda: receiver.targets("broken")[before:] == names)

        async def delivered() -> bool:
            return (await found.get(ids["broken"])).delivery.dead_letters == 0

        await eventually(delivered)
        for secret in found.secrets:
            assert all(secret not in node.log_text() for node in found.nodes)
            assert secret.removeprefix("whsec_").encode() not in found.database.read_bytes()


async def test_rotation_rejects_no_delivery_and_a_replay_sends_events_again(
    tmp_path: Path, receiver: WebhookReceiver
) -> None:
    async with site(1, tmp_path, receiver) as found:
        webhook_id = await found.create("hook")
        (old,) = found.secrets
        await found.register("a")
        await found.got("hook", "a")

        async def handled() -> str:
            """Return the cursor of the webhook once it has handled every event."""
            delivery = (await found.get(webhook_id)).delivery
            return "" if delivery.events_behind else delivery.cursor

        cursor = await eventually(handled)
        rotation = pb.RotateWebhookSecretRequest(webhook_id=webhook_id, overlap=Duration(seconds=3600))
        rotated = await found.stub().RotateWebhookSecret(rotation)
        assert rotated.webhook.HasField("previous_secret_expire_time")
        await found.register("b")
        await found.got("hook", "a", "b")
        first, second = receiver.deliveries("hook")
        first.verified(old)
        for secret in (old, rotated.secret):  # a receiver that has changed over, and one that has not
            assert second.verified(secret)["data"]["target"]["id"] == "b"
        assert len(second.headers["webhook-signature"].split()) == 2

        rotation.overlap.CopyFrom(Duration())
        newest = (await found.stub().RotateWebhookSecret(rotation)).secret
        replayed = await found.stub().ReplayWebhook(
            pb.ReplayWebhookRequest(webhook_id=webhook_id, cursor=cursor)
        )
        assert replayed.cursor == cursor
        await found.got("hook", "a", "b", "b")
        (_, _, third) = receiver.deliveries("hook")
        assert third.headers["webhook-id"] == second.headers["webhook-id"]
        assert len(third.headers["webhook-signature"].split()) == 1
        third.verified(newest)
        everything = pb.ReplayWebhookRequest(webhook_id=webhook_id)
        everything.time.SetInParent()
        await found.stub().ReplayWebhook(everything)
        await found.got("hook", "a", "b", "b", "a", "b")

        tested = await found.stub().TestWebhook(pb.TestWebhookRequest(webhook_id=webhook_id))
        assert (tested.delivered, tested.status) == (True, 204)
        assert receiver.deliveries("hook")[-1].verified(newest)["type"] == "webhook.test"
        update = pb.UpdateWebhookRequest(
            webhook=pb.Webhook(webhook_id=webhook_id, disabled=True),
            update_mask=FieldMask(paths=["disabled"]),
        )
        assert (await found.stub().UpdateWebhook(update)).webhook.disabled
        await found.register("c")
        update.webhook.disabled = False
        await found.stub().UpdateWebhook(update)
        await eventually(lambda: receiver.targets("hook")[-1] == "c")


async def test_killed_node_loses_no_event_and_another_goes_on_in_order(
    tmp_path: Path, receiver: WebhookReceiver
) -> None:
    async with site(2, tmp_path, receiver) as found:
        await found.create("hook")
        await found.register("a", "b")
        await found.got("hook", "a", "b")
        receiver.answer("hook", HANGS)
        await found.register("c", "d")
        await found.got("hook", "a", "b", "c")
        holders = [node for node in found.nodes if await _delivers(node)]
        (holder,) = holders
        await asyncio.to_thread(holder.kill)
        receiver.answer("hook", 204)
        alive = 1 - found.nodes.index(holder)
        await found.register("e", node=alive)
        await eventually(lambda: receiver.targets("hook")[-1] == "e")
        assert receiver.targets("hook") == ["a", "b", "c", "c", "d", "e"]
        cut, again = receiver.deliveries("hook")[2:4]
        assert cut.headers["webhook-id"] == again.headers["webhook-id"]


async def _delivers(node: Node) -> bool:
    """Return whether a node waits for the answer of a receiver."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        text = (await http.get(f"{node.http_url}/metrics")).text
    (lag,) = re.findall(r"^token_service_webhooks_lag_seconds(?:{.*})? (\S+)$", text, re.MULTILINE)
    return float(lag) > 0


async def test_addresses_inside_are_never_called(tmp_path: Path, receiver: WebhookReceiver) -> None:
    async with site(1, tmp_path, receiver, TOKEN_SERVICE_ALLOW_PRIVATE_WEBHOOK_URL="false") as found:
        for url in (
            receiver.url("hook"),
            f"https://127.0.0.1:{receiver.port}/",
            "https://169.254.169.254/latest/meta-data/",
            f"https://[::ffff:127.0.0.1]:{receiver.port}/",
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await found.stub().CreateWebhook(pb.CreateWebhookRequest(webhook=pb.Webhook(url=url)))
            assert set(Failure.of(refused.value).violations) == {"url"}
        named = pb.Webhook(url=f"https://localhost:{receiver.port}/hook")
        created = await found.stub().CreateWebhook(pb.CreateWebhookRequest(webhook=named))
        test = pb.TestWebhookRequest(webhook_id=created.webhook.webhook_id)
        outcome = await found.stub().TestWebhook(test)
        assert not outcome.delivered
        assert "not a global address" in outcome.error

        async def failed() -> bool:
            return "global address" in (await found.get(created.webhook.webhook_id)).delivery.last_error

        await eventually(failed)
        assert receiver.deliveries("hook") == []
