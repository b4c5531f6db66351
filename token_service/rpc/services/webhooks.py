"""The methods of EventService about webhooks: convert requests, call the core, convert results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.webhook_events import WebhookEvents
from token_service.core.administration.webhooks import DEFAULT_OVERLAP, WebhookAdministration
from token_service.core.events.feed import EventFeed
from token_service.core.events.webhooks.webhook import WebhookEntry
from token_service.rpc.convert.clients import optional_seconds
from token_service.rpc.convert.webhooks import (
    dead_letter_message,
    replay_time,
    webhook_changes,
    webhook_message,
    webhook_settings,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import event_service_pb2 as pb


class WebhookMethods:
    """The methods about webhooks."""

    def __init__(
        self, webhooks: WebhookAdministration, events: WebhookEvents, feed: EventFeed, clock: Clock
    ) -> None:
        self._webhooks: Final = webhooks
        self._events: Final = events
        self._feed: Final = feed
        self._clock: Final = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("CreateWebhook", pb.CreateWebhookRequest, self.CreateWebhook),
            UnaryMethod("GetWebhook", pb.GetWebhookRequest, self.GetWebhook),
            UnaryMethod("ListWebhooks", pb.ListWebhooksRequest, self.ListWebhooks),
            UnaryMethod("UpdateWebhook", pb.UpdateWebhookRequest, self.UpdateWebhook),
            UnaryMethod("RotateWebhookSecret", pb.RotateWebhookSecretRequest, self.RotateWebhookSecret),
            UnaryMethod("DeleteWebhook", pb.DeleteWebhookRequest, self.DeleteWebhook),
            UnaryMethod("ListDeadLetters", pb.ListDeadLettersRequest, self.ListDeadLetters),
            UnaryMethod("RedeliverDeadLetters", pb.RedeliverDeadLettersRequest, self.RedeliverDeadLetters),
            UnaryMethod("ReplayWebhook", pb.ReplayWebhookRequest, self.ReplayWebhook),
            UnaryMethod("TestWebhook", pb.TestWebhookRequest, self.TestWebhook),
        )

    async def CreateWebhook(
        self, request: pb.CreateWebhookRequest, caller: Caller
    ) -> pb.CreateWebhookResponse:
        """Create a webhook."""
        created = await self._webhooks.create(caller, webhook_settings(request), self._clock.now())
        return pb.CreateWebhookResponse(webhook=await self._message(created.entry), secret=created.secret)

    async def GetWebhook(self, request: pb.GetWebhookRequest, caller: Caller) -> pb.GetWebhookResponse:
        """Return one webhook."""
        entry = await self._webhooks.get(caller, request.webhook_id)
        return pb.GetWebhookResponse(webhook=await self._message(entry))

    async def ListWebhooks(self, _request: pb.ListWebhooksRequest, caller: Caller) -> pb.ListWebhooksResponse:
        """Return all webhooks."""
        entries = await self._webhooks.list(caller)
        head = await self._feed.head()
        return pb.ListWebhooksResponse(
            webhooks=[webhook_message(each, head.epoch, head.sequence) for each in entries]
        )

    async def UpdateWebhook(
        self, request: pb.UpdateWebhookRequest, caller: Caller
    ) -> pb.UpdateWebhookResponse:
        """Change the settings that the mask names."""
        entry = await self._webhooks.update(
            caller,
            request.webhook.webhook_id,
            webhook_changes(request),
            self._clock.now(),
            etag=request.webhook.etag,
        )
        return pb.UpdateWebhookResponse(webhook=await self._message(entry))

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, caller: Caller
    ) -> pb.RotateWebhookSecretResponse:
        """Make another secret."""
        overlap = optional_seconds(request, "overlap")
        rotated = await self._webhooks.rotate_secret(
            caller,
            request.webhook_id,
            self._clock.now(),
            etag=request.etag,
            overlap=DEFAULT_OVERLAP if overlap is None else overlap,
        )
        return pb.RotateWebhookSecretResponse(
            webhook=await self._message(rotated.entry), secret=rotated.secret
        )

    async def DeleteWebhook(
        self, request: pb.DeleteWebhookRequest, caller: Caller
    ) -> pb.DeleteWebhookResponse:
        """Delete a webhook."""
        await self._webhooks.delete(caller, request.webhook_id, etag=request.etag)
        return pb.DeleteWebhookResponse()

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, caller: Caller
    ) -> pb.ListDeadLettersResponse:
        """Return a page of the dead letters."""
        page = await self._events.dead_letters(
            caller, request.webhook_id, request.page_size, request.page_token
        )
        return pb.ListDeadLettersResponse(
            dead_letters=map(dead_letter_message, page.letters), next_page_token=page.next_page_token
        )

    async def RedeliverDeadLetters(
        self, request: pb.RedeliverDeadLettersRequest, caller: Caller
    ) -> pb.RedeliverDeadLettersResponse:
        """Ask for one more attempt for dead letters."""
        count = await self._events.redeliver(caller, request.webhook_id, request.event_ids)
        return pb.RedeliverDeadLettersResponse(requested=count)

    async def ReplayWebhook(
        self, request: pb.ReplayWebhookRequest, caller: Caller
    ) -> pb.ReplayWebhookResponse:
        """Move a webhook to another place in the event log."""
        cursor = await self._events.replay(
            caller, request.webhook_id, cursor=request.cursor, time=replay_time(request)
        )
        return pb.ReplayWebhookResponse(cursor=str(cursor))

    async def TestWebhook(self, request: pb.TestWebhookRequest, caller: Caller) -> pb.TestWebhookResponse:
        """Send a request now, and return its outcome."""
        attempt = await self._webhooks.test(caller, request.webhook_id, self._clock.now())
        return pb.TestWebhookResponse(delivered=attempt.delivered, status=attempt.status, error=attempt.error)

    async def _message(self, entry: WebhookEntry) -> pb.Webhook:
        head = await self._feed.head()
        return webhook_message(entry, head.epoch, head.sequence)
