"""The `WebhookStore` in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tests.support.memory_audit import MemoryAuditStore
from tests.support.memory_events import MemoryEventLog
from token_service.core.events.event import AuditEvent
from token_service.core.events.webhooks.webhook import DeadLetter, DeliveryState, Webhook, WebhookEntry


class MemoryWebhookStore:
    """Implements `core.events.webhooks.store.WebhookStore`."""

    def __init__(self, audit: MemoryAuditStore, log: MemoryEventLog) -> None:
        self._audit: Final = audit
        self._log: Final = log
        self._webhooks: dict[str, tuple[Webhook, DeliveryState]] = {}
        self._letters: dict[tuple[str, int], DeadLetter] = {}

    async def create(
        self, webhook: Webhook, limit: int, events: Sequence[AuditEvent] = ()
    ) -> WebhookEntry | None:
        """See `WebhookStore.create`."""
        if len(self._webhooks) >= limit:
            return None
        self._webhooks[webhook.webhook_id] = webhook, DeliveryState()
        self._log.put(webhook.consumer, (await self._log.head()).sequence)
        self._audit.add(events)
        return await self.get(webhook.webhook_id)

    async def get(self, webhook_id: str) -> WebhookEntry | None:
        """See `WebhookStore.get`."""
        if webhook_id not in self._webhooks:
            return None
        webhook, state = self._webhooks[webhook_id]
        place = await self._log.position(webhook.consumer)
        assert place is not None
        letters = sum(each.webhook_id == webhook_id for each in self._letters.values())
        return WebhookEntry(webhook=webhook, state=state, place=place, dead_letters=letters)

    async def list(self) -> Sequence[WebhookEntry]:
        """See `WebhookStore.list`."""
        found = [await self.get(webhook_id) for webhook_id in self._webhooks]
        return sorted(
            filter(None, found), key=lambda each: (each.webhook.create_time, each.webhook.webhook_id)
        )

    async def save(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, reset: bool = False
    ) -> WebhookEntry | None:
        """See `WebhookStore.save`."""
        known = self._webhooks.get(webhook.webhook_id)
        if known is None or known[0].revision != webhook.revision:
            return None
        state = DeliveryState(last_success_time=known[1].last_success_time) if reset else known[1]
        self._webhooks[webhook.webhook_id] = replace(webhook, revision=webhook.revision + 1), state
        self._audit.add(events)
        return await self.get(webhook.webhook_id)

    async def delete(self, webhook_id: str, revision: int, events: Sequence[AuditEvent] = ()) -> bool:
        """See `WebhookStore.delete`."""
        known = self._webhooks.get(webhook_id)
        if known is None or known[0].revision != revision:
            return False
        del self._webhooks[webhook_id]
        self._letters = {key: each for key, each in self._letters.items() if key[0] != webhook_id}
        await self._log.forget(known[0].consumer)
        self._audit.add(events)
        return True

    async def move(self, webhook_id: str, sequence: int, events: Sequence[AuditEvent] = ()) -> bool:
        """See `WebhookStore.move`."""
        if webhook_id not in self._webhooks:
            return False
        self._log.put(self._webhooks[webhook_id][0].consumer, sequence)
        self._audit.add(events)
        return True

    async def note(self, webhook_id: str, state: DeliveryState) -> None:
        """See `WebhookStore.note`."""
        if webhook_id in self._webhooks:
            self._webhooks[webhook_id] = self._webhooks[webhook_id][0], state

    async def bury(self, letter: DeadLetter, keep: int) -> int:
        """See `WebhookStore.bury`."""
        self._letters[letter.webhook_id, letter.sequence] = letter
        kept = sorted(key for key in self._letters if key[0] == letter.webhook_id)
        dropped = kept[: max(0, len(kept) - keep)]
        for key in dropped:
            del self._letters[key]
        return len(dropped)

    async def letters(
        self, webhook_id: str, *, limit: int, after: int = 0, requested: bool = False
    ) -> Sequence[DeadLetter]:
        """See `WebhookStore.letters`."""
        return [
            each
            for (owner, sequence), each in sorted(self._letters.items())
            if owner == webhook_id and sequence > after and (each.requested or not requested)
        ][:limit]

    async def request(self, webhook_id: str, places: Sequence[tuple[str, int]]) -> int:
        """See `WebhookStore.request`."""
        chosen = [
            key
            for key, each in self._letters.items()
            if key[0] == webhook_id and (not places or (each.chain_id, each.position) in places)
        ]
        for key in chosen:
            self._letters[key] = replace(self._letters[key], requested=True)
        return len(chosen)

    async def settle(self, letter: DeadLetter, error: str | None) -> None:
        """See `WebhookStore.settle`."""
        known = self._letters.pop((letter.webhook_id, letter.sequence), None)
        if known is not None and error is not None:
            self._letters[letter.webhook_id, letter.sequence] = replace(
                known, attempts=letter.attempts + 1, last_error=error, requested=False
            )

    async def purge(self, before: float) -> int:
        """See `WebhookStore.purge`."""
        old = [key for key, each in self._letters.items() if each.create_time < before]
        for key in old:
            del self._letters[key]
        return len(old)
