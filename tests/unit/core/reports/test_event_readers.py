"""Readers of the event log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.events.test_feed import changes
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.events.feed import POLL_INTERVAL, EventFeed
from token_service.core.events.filter import EventFilter
from token_service.core.events.log import EventHead
from token_service.core.reports.event_readers import EventPage, EventReaders
from token_service.errors import EventsExpiredError, StoreUnavailableError


class Bench:
    """A log, its feed, and readers of it."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.feed = EventFeed(self.stores.events, self.clock)
        self.streams = EventReaders(self.feed)

    def read(self, where: EventFilter | None = None, cursor: str = "", **options: bool) -> Any:
        options = {"from_earliest": False, **options}
        return aclosing(self.streams.stream(Caller.system(), where or EventFilter(), cursor, **options))

    async def write(self, first: int, last: int) -> None:
        await self.stores.audit.append(changes(first, last))

    async def moved(self) -> None:
        await asyncio.sleep(POLL_INTERVAL + 0.1)


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    task = asyncio.create_task(bench.feed.run())
    await asyncio.sleep(0.1)
    yield bench
    assert not task.done()
    task.cancel()


async def several(pages: AsyncGenerator[EventPage], seconds: float) -> list[EventPage]:
    """Return the pages of a time."""
    found: list[EventPage] = []
    try:
        async with asyncio.timeout(seconds):
            while len(found) < 1000:
                await asyncio.sleep(0.001)  # as sending a page takes
                found.append(await anext(pages))
    except TimeoutError:
        pass
    return found


def targets(page: EventPage) -> list[str]:
    return [event.row.target for event in page.events if event.row is not None]


@virtual_time
async def test_reader_without_events_gets_its_cursor_every_quarter_of_a_minute() -> None:
    async with running() as bench, bench.read(EventFilter(client_id="another")) as pages:
        first = await anext(pages)
        assert (first.cursor.sequence, first.caught_up) == (0, True)
        page = first
        for number in range(1, 4):
            await bench.write(number, number)
            page = await anext(pages)
            assert (page.events, page.cursor.sequence, page.caught_up) == ([], number, True)
        before = bench.clock.monotonic()
        assert await anext(pages) == page
        assert bench.clock.monotonic() - before == pytest.approx(15)


@virtual_time
async def test_numbers_without_an_event_are_passed_once() -> None:
    async with running() as bench, bench.read() as pages:
        await anext(pages)
        bench.stores.audit.renewals += 1
        found = await several(pages, 14)
        head = await bench.stores.events.head()
        assert [(page.events, page.cursor.sequence) for page in found] == [([], head.sequence)]


@virtual_time
async def test_events_deleted_beside_a_reader_are_told() -> None:
    async with running() as bench, bench.read() as pages:
        cursor = (await anext(pages)).cursor
        await bench.write(1, 300)
        await bench.moved()
        page = await anext(pages)
        assert targets(page) == [f"c-{number}" for number in range(1, 101)]
        await bench.stores.events.purge(1e12, 300)
        await asyncio.sleep(60)  # none of them is in memory any longer
        with pytest.raises(EventsExpiredError) as expired:
            await anext(pages)
        assert expired.value.metadata == {"earliest_cursor": f"{cursor.epoch}:300"}


@pytest.mark.parametrize("same", [True, False], ids=["an earlier state", "another database"])
@virtual_time
async def test_database_that_is_restored_beneath_a_reader_resets_it(same: bool) -> None:  # noqa: FBT001
    async with running() as bench, bench.read() as pages:
        await anext(pages)
        await bench.write(1, 5)
        assert len((await anext(pages)).events) == 5
        restored = MemoryStores(bench.clock)
        if same:
            restored.events._epoch = bench.stores.events._epoch  # type: ignore[misc]
        await restored.audit.append(changes(1, 2))
        await restored.events.sequence(10)
        bench.feed._log = restored.events
        page = await anext(pages)
        assert (targets(page), page.reset, page.cursor.sequence) == (["c-1", "c-2"], True, 2)
        assert page.cursor.epoch == (await restored.events.head()).epoch
        await restored.audit.append(changes(3, 9))
        page = await anext(pages)
        assert (targets(page), page.reset) == ([f"c-{number}" for number in range(3, 10)], False)


@virtual_time
async def test_reader_is_not_caught_up_while_the_log_cannot_be_read() -> None:
    async with running() as bench, bench.read() as pages:
        assert (await anext(pages)).caught_up
        head = bench.stores.events.head

        async def fail() -> EventHead:
            raise StoreUnavailableError

        bench.stores.events.head = fail  # type: ignore[method-assign]
        assert not (await anext(pages)).caught_up
        bench.stores.events.head = head  # type: ignore[method-assign]
        await bench.write(1, 1)
        page = await anext(pages)
        assert (targets(page), page.caught_up) == (["c-1"], True)


@virtual_time
async def test_reader_ends_at_once_when_it_is_cancelled() -> None:
    async with running() as bench:
        for steps in range(12):

            async def follow() -> None:
                async with bench.read(from_earliest=True) as pages:
                    async for _ in pages:
                        await asyncio.sleep(0)

            task = asyncio.create_task(follow())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert bench.feed._readers == 0
