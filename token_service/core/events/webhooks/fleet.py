"""The pipelines of this node: one for each enabled webhook whose lease it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from token_service.core.events.webhooks.delivering import LEASE_TIME, PipelineParts, WebhookPipeline, report
from token_service.core.events.webhooks.schedule import DEAD_LETTER_RETENTION, HOUR
from token_service.core.events.webhooks.webhook import WebhookEntry
from token_service.core.leases import Lease, LeaseStore

POLL_INTERVAL: Final = 2.0
"""Seconds between two looks at the webhooks, which other nodes may have changed."""

logger = logging.getLogger(__name__)


class WebhookDelivery:
    """Runs a pipeline for each enabled webhook that no other node serves. A slow receiver delays only its own events."""

    def __init__(self, parts: PipelineParts, leases: LeaseStore, node_id: str) -> None:
        self._parts = parts
        self._leases = leases
        self._node_id = node_id
        self._running: dict[str, tuple[WebhookPipeline, asyncio.Task[None]]] = {}
        self._wanted = asyncio.Event()
        self._purged_at = float("-inf")
        self.known: Sequence[WebhookEntry] = ()
        """The webhooks at the last look."""

    def wake(self) -> None:
        """Look soon, because this process has changed a webhook or asked for redeliveries."""
        self._wanted.set()
        for pipeline, _ in self._running.values():
            pipeline.wake()

    async def run(self) -> None:
        """Deliver the events of webhooks until cancelled."""
        known = ""
        try:
            while True:
                try:
                    await self._look()
                    known = ""
                except Exception as error:  # noqa: BLE001 - a row that can't be read must not end the node
                    known = report("webhooks can't be read", error, known)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_INTERVAL):
                        await self._wanted.wait()
                self._wanted.clear()
        finally:
            await self._stop([*self._running])

    @property
    def failing(self) -> int:
        """The number of webhooks whose deliveries fail, or that were disabled because of it."""
        return sum(each.is_failing for each in self.known)

    @property
    def dead_letters(self) -> int:
        """The number of dead letters of all webhooks."""
        return sum(each.dead_letters for each in self.known)

    @property
    def events_behind(self) -> int:
        """The most events of the log that an enabled webhook has not handled."""
        head = self._parts.feed.known
        if head is None:
            return 0
        return max(
            (head.sequence - each.place for each in self.known if not each.webhook.disabled), default=0
        )

    @property
    def seconds_behind(self) -> float:
        """The age of the oldest event that waits for its delivery by this process."""
        waiting = [
            pipeline.pending_since
            for pipeline, _ in self._running.values()
            if pipeline.pending_since is not None
        ]
        return max(0.0, self._parts.clock.now() - min(waiting)) if waiting else 0.0

    async def _look(self) -> None:
        """Start and stop pipelines."""
        await self._purge()
        self.known = await self._parts.store.list()
        enabled = {each.webhook.webhook_id: each for each in self.known if not each.webhook.disabled}
        await self._stop([name for name in self._running if name not in enabled])
        for name, (_, task) in list(self._running.items()):
            if task.done():
                del self._running[name]
        for name, (pipeline, _) in self._running.items():
            if pipeline.webhook.revision != enabled[name].webhook.revision:
                pipeline.update(enabled[name])
        await self._start({name: each for name, each in enabled.items() if name not in self._running})

    async def _start(self, entries: Mapping[str, WebhookEntry]) -> None:
        """Start pipelines for the webhooks whose lease no other process has."""
        holders = await self._leases.holders() if entries else {}
        for name, entry in entries.items():
            lease = Lease(self._leases, entry.webhook.consumer, self._node_id)
            if holders.get(lease.name, self._node_id) != self._node_id or not await lease.acquire(LEASE_TIME):
                continue
            # Read after the lease was taken: the last holder may have noted attempts since the look.
            entry_now = await self._parts.store.get(name)
            if entry_now is None or entry_now.webhook.disabled:
                await lease.release()
                continue
            pipeline = WebhookPipeline(entry_now, lease, self._parts)
            task = asyncio.create_task(pipeline.run(), name=f"deliver-{lease.name}")
            task.add_done_callback(_report)
            self._running[name] = pipeline, task

    async def _stop(self, names: Sequence[str]) -> None:
        tasks = [self._running.pop(name)[1] for name in names]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _purge(self) -> None:
        """Delete old dead letters once in an hour."""
        clock = self._parts.clock
        if clock.monotonic() - self._purged_at >= HOUR:
            await self._parts.store.purge(clock.now() - DEAD_LETTER_RETENTION)
            self._purged_at = clock.monotonic()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the delivery to a webhook failed, trying again", exc_info=error)
