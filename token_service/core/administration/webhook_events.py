"""ListDeadLetters, RedeliverDeadLetters, ReplayWebhook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.administration.webhooks import event_of, existing
from token_service.core.events.event import Action
from token_service.core.events.log import EventLog
from token_service.core.events.webhooks.store import WebhookStore
from token_service.core.events.webhooks.webhook import DeadLetter
from token_service.core.limits import DEFAULT_PAGE, MAX_PAGE, Checks
from token_service.errors import EventsExpiredError, WebhookNotFoundError
from token_service.tokens.revocation import Cursor

_MAX_SEQUENCE: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """Dead letters, oldest first. `next_page_token` is empty on the last page."""

    letters: Sequence[DeadLetter]
    next_page_token: str


class WebhookEvents:
    """The events of webhooks that are to be sent again. Each method raises `PermissionDeniedError`,
    `InvalidRequestError`, `WebhookNotFoundError` and `StoreUnavailableError`.
    """

    def __init__(self, store: WebhookStore, log: EventLog, changed: Callable[[], None]) -> None:
        """`changed` is called when there is something to send."""
        self._store = store
        self._log = log
        self._changed = changed

    async def dead_letters(
        self, caller: Caller, webhook_id: str, page_size: int, page_token: str
    ) -> DeadLetterPage:
        """List a page of the dead letters; a size of 0 is the default."""
        admit(caller, UseCase.LIST_DEAD_LETTERS)
        checks = Checks()
        after = checks.page(page_size, page_token, _parse_position)
        checks.done()
        await existing(self._store, webhook_id)
        size = page_size or DEFAULT_PAGE
        letters = await self._store.letters(webhook_id, limit=size + 1, after=after or 0)
        page = letters[:size]
        return DeadLetterPage(page, str(page[-1].sequence) if len(letters) > size else "")

    async def redeliver(self, caller: Caller, webhook_id: str, event_ids: Sequence[str]) -> int:
        """Ask for one more attempt for dead letters, or for all without ids; return their number."""
        admit(caller, UseCase.REDELIVER_DEAD_LETTERS)
        checks = Checks()
        if len(event_ids) > MAX_PAGE:
            checks.add("event_ids", f"has more than {MAX_PAGE} items")
        places: list[tuple[str, int]] = []
        for number, text in enumerate(event_ids[:MAX_PAGE]):
            chain_id, _, position = text.rpartition(":")
            if chain_id and position.isascii() and position.isdecimal() and len(position) < 19:
                places.append((chain_id, int(position)))
            else:
                checks.add(f"event_ids[{number}]", "is not the id of an event")
        checks.done()
        await existing(self._store, webhook_id)
        count = await self._store.request(webhook_id, places)
        self._changed()
        return count

    async def replay(
        self, caller: Caller, webhook_id: str, *, cursor: str = "", time: float | None = None
    ) -> Cursor:
        """Move a webhook to a cursor, or to the first event at or after a time that is kept; return its new place.

        Raises `EventsExpiredError`.
        """
        admit(caller, UseCase.REPLAY_WEBHOOK)
        await existing(self._store, webhook_id)
        head = await self._log.head()
        if time is None:
            place = _parse_cursor(cursor)
            if place.epoch != head.epoch or place.sequence > head.sequence:
                checks = Checks()
                checks.add("cursor", "is not a place in the event log of this database")
                checks.done()
            if place.sequence < head.purged:
                raise EventsExpiredError(metadata={"earliest_cursor": str(Cursor(head.epoch, head.purged))})
            sequence = place.sequence
        else:
            sequence = max(head.purged, await self._log.before(time))
        fields = {"replayed_from": str(Cursor(head.epoch, sequence))}
        event = event_of(caller.actor(), Action.WEBHOOK_UPDATED, webhook_id, fields)
        if not await self._store.move(webhook_id, sequence, [event]):
            raise WebhookNotFoundError(metadata={"webhook_id": webhook_id})
        self._changed()
        return Cursor(head.epoch, sequence)


def _parse_position(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20) or int(text) > _MAX_SEQUENCE:
        raise ValueError("not a position")
    return int(text)


def _parse_cursor(text: str) -> Cursor:
    checks = Checks()
    try:
        return Cursor.parse(text)
    except ValueError:
        checks.add("cursor", "is not a cursor that this service gave")
    checks.done()
    raise AssertionError("a violation was noted")
