"""StreamEvents: one reader's way through the event log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.event import Action, Category
from token_service.core.events.feed import EventFeed
from token_service.core.events.filter import MAX_EVENT_CONDITIONS, EventFilter
from token_service.core.events.log import EventHead, StoredEvent
from token_service.core.limits import MAX_SUBJECT, Checks
from token_service.errors import EventsExpiredError
from token_service.tokens.revocation import Cursor

_HEARTBEAT: Final = 15.0
"""Seconds after which a reader without events gets its cursor again."""
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class EventPage:
    """A part of a stream. `cursor` resumes after it."""

    events: Sequence[StoredEvent]
    cursor: Cursor
    caught_up: bool
    reset: bool = False
    """Whether the cursor was of another log, so that the stream begins again with the oldest event."""


class EventReaders:
    """Reads the event log for callers."""

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed

    async def stream(
        self, caller: Caller, where: EventFilter, cursor: str, *, from_earliest: bool
    ) -> AsyncGenerator[EventPage]:
        """Yield pages of the matching events after a cursor, in order, without end.

        Without a cursor the stream begins with the next event, or with the oldest one. The first page comes at once. A
        page without events says how far the log was read. A reader that resumes with an older cursor gets pages again,
        and never misses one. A database that is restored beneath the stream resets it.

        Raises `PermissionDeniedError`, `InvalidRequestError`, `EventsExpiredError`, and `StoreUnavailableError`.
        """
        admit(caller, UseCase.STREAM_EVENTS)
        asked = _check(where, cursor)
        feed = self._feed
        resets = feed.resets
        head = await feed.head()
        place, reset = _begin(head, asked, from_earliest=from_earliest)
        waits = False  # the first page comes at once
        while True:
            batch = await feed.next(place, _PAGE)
            if waits and batch.reached == place:
                await feed.wait(place, _HEARTBEAT)
                batch = await feed.next(place, _PAGE)
            if batch.lost or resets != feed.resets:
                resets = feed.resets
                head, epoch = await feed.head(), head.epoch
                place, again = _begin(head, Cursor(epoch, place), from_earliest=False)
                reset = reset or again
                continue
            place = batch.reached
            matching = [event for event in batch.events if where.matches(event)]
            yield EventPage(matching, Cursor(head.epoch, place), feed.is_end(place), reset=reset)
            waits, reset = True, False


def _begin(head: EventHead, asked: Cursor | None, *, from_earliest: bool) -> tuple[int, bool]:
    """Return the sequence to read after, and whether the cursor was of another log. Raises `EventsExpiredError`."""
    if asked is None:
        return (head.purged if from_earliest else head.sequence), False
    if asked.epoch != head.epoch or asked.sequence > head.sequence:
        return head.purged, True
    if asked.sequence < head.purged:
        raise EventsExpiredError(metadata={"earliest_cursor": str(Cursor(head.epoch, head.purged))})
    return asked.sequence, False


def _check(where: EventFilter, cursor: str) -> Cursor | None:
    """Return the parsed cursor. Raises `InvalidRequestError`."""
    checks = Checks()
    for name in ("subject", "session_id", "client_id"):
        checks.text(name, getattr(where, name), MAX_SUBJECT)
    for name, values, known in (
        ("actions", where.actions, tuple(Action)),
        ("categories", where.categories, tuple(Category)),
    ):
        if len(values) > MAX_EVENT_CONDITIONS:
            checks.add(name, f"has more than {MAX_EVENT_CONDITIONS} items")
        for number, value in enumerate(values[:MAX_EVENT_CONDITIONS]):
            if value not in known:
                checks.add(f"{name}[{number}]", f"is none of {', '.join(known)}")
    parsed = None
    if cursor:
        try:
            parsed = Cursor.parse(cursor)
        except ValueError:
            checks.add("cursor", "is not a cursor that this service gave")
    checks.done()
    return parsed
