"""Nodes that deliver to receivers in memory, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.support.memory_stores import MemoryStores
from tests.unit.core.events.test_feed import changes
from tests.unit.core.virtual_time import LoopClock, cancelled
from token_service.core.events.feed import EventFeed
from token_service.core.events.webhooks.delivering import PipelineParts
from token_service.core.events.webhooks.fleet import WebhookDelivery
from token_service.core.events.webhooks.schedule import RetryRules
from token_service.core.events.webhooks.sending import NoAnswerError, WebhookAnswer, WebhookSender
from token_service.core.events.webhooks.webhook import SealedSecret, Webhook, WebhookEntry
from token_service.tokens.secret import Secret

SECRET = Secret(b"s" * 32)
RULES = RetryRules(attempts=3, span=40.0)
"""Pauses of 10 and 30 seconds, without jitter."""


class Receiver:
    """A receiver: `answer` decides about each request by its number, from 1."""

    def __init__(
        self, clock: LoopClock, answer: Callable[[int], int | WebhookAnswer] = lambda _: 204
    ) -> None:
        self.clock = clock
        self.answer = answer
        self.attempts: list[tuple[float, str]] = []
        """The time of each request and the client that its event is about."""
        self.headers: list[Mapping[str, str]] = []
        self.taken: list[str] = []
        self.hangs = False

    async def take(self, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        data = json.loads(body)["data"]
        name = data["target"]["id"]
        self.attempts.append((self.clock.monotonic(), name))
        self.headers.append(headers)
        if self.hangs:
            await asyncio.sleep(1e9)
        answer = self.answer(len(self.attempts))
        if answer == 0:
            raise NoAnswerError("no answer in 10 seconds")
        if isinstance(answer, int):
            answer = WebhookAnswer(answer)
        if answer.status < 300:
            self.taken.append(name)
        return answer

    @property
    def times(self) -> list[float]:
        """The seconds between the first request and each one."""
        return [round(time - self.attempts[0][0], 2) for time, _ in self.attempts]


class Site:
    """Nodes on one database."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.receivers: dict[str, Receiver] = {}
        self.counted: list[str] = []
        self.nodes: dict[str, tuple[WebhookDelivery, list[asyncio.Task[Any]]]] = {}

    def receiver(self, name: str, answer: Callable[[int], int | WebhookAnswer] = lambda _: 204) -> Receiver:
        self.receivers[f"https://{name}.example/"] = receiver = Receiver(self.clock, answer)
        return receiver

    async def create(self, name: str, **settings: Any) -> None:
        webhook = Webhook(
            webhook_id=name,
            url=f"https://{name}.example/",
            secrets=(SealedSecret(wrapped=b"", wrapping_key_id=""),),
            create_time=self.clock.now(),
            revision=1,
            **settings,
        )
        assert await self.stores.webhooks.create(webhook, 9) is not None

    async def entry(self, name: str) -> WebhookEntry:
        entry = await self.stores.webhooks.get(name)
        assert entry is not None
        return entry

    def start(self, node: str) -> WebhookDelivery:
        feed = EventFeed(self.stores.events, self.clock)
        parts = PipelineParts(
            store=self.stores.webhooks,
            log=self.stores.events,
            feed=feed,
            trail=self.stores.audit,
            sender=WebhookSender(self._send, lambda _webhook, _now: [SECRET], self.clock),
            clock=self.clock,
            entropy=bytes,
            rules=RULES,
            count=lambda outcome: self.counted.append(outcome.value),
        )
        delivery = WebhookDelivery(parts, self.stores.leases, node)
        tasks = [asyncio.create_task(feed.run()), asyncio.create_task(delivery.run())]
        self.nodes[node] = delivery, tasks
        return delivery

    async def stop(self, node: str) -> None:
        for task in self.nodes.pop(node)[1]:
            await cancelled(task)

    def change(self, first: int, last: int) -> None:
        """Write events about the clients c-first to c-last."""
        self.stores.audit.add(changes(first, last))

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        return await self.receivers[url].take(headers, body)


@asynccontextmanager
async def site(*nodes: str) -> AsyncIterator[Site]:
    """Yield nodes that run."""
    made = Site()
    for node in nodes:
        made.start(node)
    try:
        yield made
    finally:
        for node in list(made.nodes):
            await made.stop(node)
