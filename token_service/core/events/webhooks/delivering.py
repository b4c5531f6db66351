"""The deliveries of one webhook: in order, at least once, by the process that has its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from token_service.clock import Clock
from token_service.core.entropy import Entropy
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.feed import EventFeed
from token_service.core.events.log import EventLog, StoredEvent
from token_service.core.events.store import AuditStore
from token_service.core.events.webhooks.payload import payload_of
from token_service.core.events.webhooks.schedule import DISABLE_AFTER, MAX_DEAD_LETTERS, RetryRules
from token_service.core.events.webhooks.sending import Attempt, Outcome, WebhookSender
from token_service.core.events.webhooks.store import WebhookStore
from token_service.core.events.webhooks.webhook import DeadLetter, DeliveryState, WebhookEntry
from token_service.core.leases import Lease
from token_service.errors import TokenServiceError

LEASE_TIME: Final = 20.0
"""Seconds after which another node takes over from one that was killed. Longer than a request and its notes take."""
_RENEW_AFTER: Final = 5.0
_IDLE: Final = 5.0
"""Seconds after which a pipeline without events looks for redeliveries and renews its lease."""
_PAGE: Final = 100
_REDELIVERIES: Final = 20
"""Redeliveries between two looks at the event log."""
_SUCCESS_NOTED: Final = 10.0
"""Seconds between two notes of a success."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """What the pipelines of all webhooks share."""

    store: WebhookStore
    log: EventLog
    feed: EventFeed
    trail: AuditStore
    sender: WebhookSender
    clock: Clock
    entropy: Entropy
    rules: RetryRules
    count: Callable[[Outcome], None]
    """Is called with the outcome of each attempt."""


class WebhookPipeline:
    """Delivers the events of one webhook while this process has its lease."""

    def __init__(self, entry: WebhookEntry, lease: Lease, parts: PipelineParts) -> None:
        self.webhook = entry.webhook
        self._id: Final = entry.webhook.webhook_id
        self._lease = lease
        self._parts = parts
        self._state = entry.state
        self._held_at = float("-inf")
        self._changed = asyncio.Event()
        self._ended = False
        self.pending_since: float | None = None
        """The time of the event that waits for its delivery; None: none waits."""

    def update(self, entry: WebhookEntry) -> None:
        """Go on with other settings."""
        self.webhook = entry.webhook
        self._state = entry.state
        self.wake()

    def wake(self) -> None:
        """Look for events and redeliveries soon."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver until cancelled, until another process has the lease, or until the webhook is disabled or deleted."""
        pause, known = _FIRST_PAUSE, ""
        try:
            while not self._ended:
                try:
                    if not await self._hold():
                        return
                    await self.step()
                    pause, known = _FIRST_PAUSE, ""
                except Exception as error:  # noqa: BLE001 - a defect is tried again with growing pauses as well
                    known = report(f"events of webhook {self._id} can't be delivered", error, known)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def _hold(self) -> bool:
        """Renew the lease if that is due; return whether this process has it."""
        now = self._parts.clock.monotonic()
        if now - self._held_at < _RENEW_AFTER:
            return True
        if not await self._lease.acquire(LEASE_TIME):
            return False
        self._held_at = now
        return True

    async def step(self) -> None:
        """Deliver the next events; wait a short time without any, or if the next attempt is not due."""
        self._changed.clear()
        await self._redeliver()
        parts, name = self._parts, self.webhook.consumer
        place = await parts.log.position(name)
        if place is None:
            self._ended = True  # the webhook was deleted
            return
        known = parts.feed.known
        page = await parts.feed.read(place, _PAGE)
        if not page:
            self.pending_since = None
            if known is not None and known.sequence > place:  # the numbers have jumped
                await parts.log.advance(name, place, known.sequence)
                return
            await self._wait(parts.feed.wait(place, _IDLE))
            return
        if page[0].sequence != place + 1 and (await parts.log.head()).purged > place:
            logger.error("webhook %s misses events, which were deleted after their retention", self._id)
        passed = place
        for event in page:
            if self.webhook.filter.matches(event):
                if not await self._deliver(event):
                    break
                # A replay or another process has moved the place if the note fails.
                if not await parts.log.advance(name, place, event.sequence):
                    return
                place = event.sequence
                if not await self._hold():
                    self._ended = True
                    return
            passed = event.sequence
        if passed > place:
            await parts.log.advance(name, place, passed)

    async def _deliver(self, event: StoredEvent) -> bool:
        """Make an attempt if it is due; return whether the webhook goes on after the event."""
        parts, state, now = self._parts, self._state, self._parts.clock.now()
        self.pending_since = now if event.row is None else event.row.time / 1_000_000
        is_retry = state.sequence == event.sequence
        if is_retry and state.due_time > now:
            await self._wait(asyncio.sleep(min(_IDLE, state.due_time - now)))
            return False
        attempt = await self._attempt(event)
        now = parts.clock.now()
        if attempt.delivered:
            parts.count(Outcome.DELIVERED)
            await self._succeeded(now)
            return True
        attempts = state.attempts + 1 if is_retry else 1
        since = now if state.failing_since is None else state.failing_since
        if state.failing_since is None:
            logger.warning("webhook %s did not take an event, trying again: %s", self._id, attempt.error)
        ends = attempts >= parts.rules.attempts
        parts.count(Outcome.DEAD_LETTER if ends else Outcome.FAILED)
        if attempt.is_gone or now - since >= DISABLE_AFTER:
            why = attempt.error if attempt.is_gone else "every delivery failed for a day"
            await self._disable(why, now)
            return False
        if ends:
            await self._bury(event, attempts, attempt.error, now)
        pause = 0.0 if ends else parts.rules.pause(attempts, attempt.retry_after, parts.entropy)
        await self._note(
            DeliveryState(
                sequence=event.sequence,
                attempts=attempts,
                due_time=now + pause,
                failing_since=since,
                last_error=attempt.error,
                last_success_time=state.last_success_time,
            )
        )
        return ends

    async def _redeliver(self) -> None:
        """Make one attempt for each dead letter for which an operator asked."""
        parts = self._parts
        for letter in await parts.store.letters(self._id, limit=_REDELIVERIES, requested=True):
            if not await self._hold():
                self._ended = True
                return
            attempt = await self._attempt_again(letter)
            now = parts.clock.now()
            if attempt.is_gone:
                await self._disable(attempt.error, now)
                return
            parts.count(Outcome.DELIVERED if attempt.delivered else Outcome.DEAD_LETTER)
            await parts.store.settle(letter, attempt.error or None)

    async def _attempt_again(self, letter: DeadLetter) -> Attempt:
        parts = self._parts
        rows = await parts.trail.rows(letter.chain_id, letter.position - 1, 1)
        row = rows[0] if rows and rows[0].position == letter.position else None
        return await self._attempt(
            StoredEvent(letter.sequence, letter.chain_id, letter.position, letter.type, row)
        )

    async def _attempt(self, event: StoredEvent) -> Attempt:
        """Send an event once. One that can't be made into a request fails like one that is not taken.

        So it becomes a dead letter and does not stop the events behind it.
        """
        try:
            return await self._parts.sender.attempt(self.webhook, event.id, payload_of(event))
        except TokenServiceError:
            raise  # no event can be sent now
        except Exception as error:
            logger.exception("event %s can't be sent to webhook %s", event.id, self._id)
            return Attempt(error=_unexpected(error))

    async def _bury(self, event: StoredEvent, attempts: int, error: str, now: float) -> None:
        dropped = await self._parts.store.bury(
            DeadLetter(
                webhook_id=self._id,
                sequence=event.sequence,
                chain_id=event.chain_id,
                position=event.position,
                type=event.type,
                attempts=attempts,
                last_error=error,
                create_time=now,
            ),
            MAX_DEAD_LETTERS,
        )
        logger.error(
            "webhook %s did not take event %s, which is a dead letter: %s", self._id, event.id, error
        )
        if dropped:
            logger.error("%d older dead letters of webhook %s were deleted", dropped, self._id)

    async def _disable(self, why: str, now: float) -> None:
        """Disable the webhook, unless it was changed meanwhile: then the next attempt decides."""
        event = AuditEvent(
            action=Action.WEBHOOK_UPDATED,
            actor=Actor.system("webhooks"),
            target=Target("webhook", self._id),
            fields={"disabled": True, "cause": why},
        )
        disabled = replace(self.webhook, disabled=True, disable_reason=why, update_time=now)
        self._ended = True
        if await self._parts.store.save(disabled, [event]) is not None:
            logger.error("webhook %s was disabled: %s", self._id, why)

    async def _succeeded(self, now: float) -> None:
        state = self._state
        noted = state.last_success_time
        if state.failing_since is not None:
            logger.info("webhook %s takes events again", self._id)
        elif noted is not None and now - noted < _SUCCESS_NOTED:
            return
        await self._note(DeliveryState(last_success_time=now))

    async def _note(self, state: DeliveryState) -> None:
        self._state = state
        await self._parts.store.note(self._id, state)

    async def _wait(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait, at most until `wake` is called."""
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(wait),
            asyncio.create_task(self._changed.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def report(what: str, error: Exception, known: str) -> str:
    """Log that something fails and is tried again, once for the same reason, and return the reason.

    `known`: the reason of the failure before; empty: it did not fail.
    """
    expected = isinstance(error, TokenServiceError)
    problem = error.message if isinstance(error, TokenServiceError) else _unexpected(error)
    if problem != known:
        logger.log(
            logging.WARNING if expected else logging.ERROR,
            "%s, trying again: %s",
            what,
            problem,
            exc_info=None if expected else error,
        )
    return problem


def _unexpected(error: Exception) -> str:
    return f"unexpected {type(error).__name__}"
