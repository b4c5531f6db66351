"""The event feed of one process."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.feed import POLL_INTERVAL, EventBatch, EventFeed
from token_service.core.events.log import EventHead, StoredEvent
from token_service.errors import OverloadedError, StoreUnavailableError


def changes(first: int, last: int) -> list[AuditEvent]:
    return [
        AuditEvent(
            action=Action.CLIENT_UPDATED, actor=Actor.system("test"), target=Target("client", f"c-{number}")
        )
        for number in range(first, last + 1)
    ]


def numbers(events: list[StoredEvent]) -> list[int]:
    return [event.sequence for event in events]


@virtual_time
async def test_waiting_readers_share_one_read() -> None:
    stores = MemoryStores(LoopClock())
    reads = []
    read = stores.events.read

    async def counted(after: int, limit: int) -> list[StoredEvent]:
        reads.append(after)
        return list(await read(after, limit))

    stores.events.read = counted  # type: ignore[method-assign]
    feed = EventFeed(stores.events, LoopClock())
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(1)

    async def follow() -> list[int]:
        await feed.wait(0, 60)
        return numbers(list(await feed.read(0)))

    readers = [asyncio.create_task(follow()) for _ in range(10)]
    await asyncio.sleep(1)
    await stores.audit.append(changes(1, 3))
    assert await asyncio.gather(*readers) == [[1, 2, 3]] * 10
    assert reads == [0]
    assert numbers(list(await feed.read(1, 1))) == [2]
    assert await feed.read(3) == ()
    await asyncio.sleep(40)
    await stores.audit.append(changes(4, 4))
    await asyncio.sleep(1)
    assert numbers(list(await feed.read(0))) == [1, 2, 3, 4], "those in memory are too old"
    assert reads == [0, 0]
    task.cancel()


@virtual_time
async def test_wait_ends_without_an_event() -> None:
    clock = LoopClock()
    feed = EventFeed(MemoryStores(clock).events, clock)
    before = clock.monotonic()
    await feed.wait(0, 5)
    assert clock.monotonic() - before == pytest.approx(5)


@virtual_time
async def test_wake_moves_the_outbox_at_once() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    feed = EventFeed(stores.events, clock, interval=3600)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(1)
    await stores.audit.append(changes(1, 1200))
    feed.wake()
    await asyncio.sleep(0.1)
    assert feed.known is not None
    assert (feed.known.sequence, feed.known.waiting) == (1200, False)
    task.cancel()


@virtual_time
async def test_failing_store_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    head = stores.events.head

    async def fail() -> None:
        raise StoreUnavailableError

    stores.events.head = fail  # type: ignore[method-assign, assignment]
    feed = EventFeed(stores.events, clock)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(10)
    assert caplog.text.count("the event log can't be read, trying again") == 1
    stores.events.head = head  # type: ignore[method-assign]
    await stores.audit.append(changes(1, 1))
    await asyncio.sleep(1)
    assert feed.known is not None
    assert feed.known.sequence == 1
    task.cancel()


@virtual_time
async def test_restored_log_is_not_served_from_memory() -> None:
    clock = LoopClock()
    old, new = MemoryStores(clock), MemoryStores(clock)
    feed = EventFeed(old.events, clock)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(1)
    waiting = asyncio.create_task(feed.wait(0, 60))
    await asyncio.sleep(0)
    await old.audit.append(changes(1, 3))
    await waiting
    feed._log = new.events
    await new.audit.append(changes(7, 7))
    await asyncio.sleep(1)
    (event,) = await feed.read(0)
    assert event.row is not None
    assert (event.sequence, event.row.target) == (1, "c-7")
    task.cancel()


@virtual_time
async def test_reader_that_waits_before_the_first_look_is_woken() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    await stores.audit.append(changes(1, 3))
    await stores.events.sequence(10)
    feed = EventFeed(stores.events, clock)
    waiting = asyncio.create_task(feed.wait(0, 60))
    await asyncio.sleep(1)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(POLL_INTERVAL + 0.1)
    assert waiting.done()
    task.cancel()


@virtual_time
async def test_failed_read_for_the_readers_wakes_them() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    feed = EventFeed(stores.events, clock)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(1)
    waiting = asyncio.create_task(feed.wait(0, 60))
    await asyncio.sleep(0)

    async def fail(after: int, limit: int) -> list[StoredEvent]:
        raise OverloadedError("the queue is full", retry_after=1.0)

    stores.events.read = fail  # type: ignore[method-assign]
    await stores.audit.append(changes(1, 1))
    await asyncio.sleep(POLL_INTERVAL + 0.1)
    assert waiting.done()
    task.cancel()


@virtual_time
async def test_node_that_cannot_move_events_follows_those_that_others_move() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    await stores.audit.append(changes(1, 2))

    async def fail(limit: int) -> int:
        raise StoreUnavailableError

    sequence = stores.events.sequence
    stores.events.sequence = fail  # type: ignore[method-assign]
    feed = EventFeed(stores.events, clock)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(1)
    waiting = asyncio.create_task(feed.wait(0, 60))
    await sequence(1)
    await asyncio.sleep(POLL_INTERVAL + 0.1)
    assert waiting.done()
    assert numbers(list(await feed.read(0))) == [1]
    assert not feed.is_end(1), "the outbox has another event"
    task.cancel()


@virtual_time
async def test_wake_during_a_look_causes_another_one() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    head = stores.events.head

    async def slow() -> EventHead:
        found = await head()
        await asyncio.sleep(1)
        return found

    stores.events.head = slow  # type: ignore[method-assign]
    feed = EventFeed(stores.events, clock, interval=3600)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(0.5)
    await stores.audit.append(changes(1, 1))
    feed.wake()
    await asyncio.sleep(5)
    assert feed.known is not None
    assert feed.known.sequence == 1
    task.cancel()


@virtual_time
async def test_writes_in_a_row_share_a_move() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    moves = []
    sequence = stores.events.sequence

    async def counted(limit: int) -> int:
        moves.append(await sequence(limit))
        await asyncio.sleep(0.005)
        return moves[-1]

    stores.events.sequence = counted  # type: ignore[method-assign]
    feed = EventFeed(stores.events, clock)
    task = asyncio.create_task(feed.run())
    for number in range(1000):
        await stores.audit.append(changes(number, number))
        feed.wake()
        await asyncio.sleep(0.001)
    await asyncio.sleep(1)
    assert sum(moves) == 1000
    assert len(moves) <= 6
    task.cancel()


@virtual_time
async def test_next_passes_numbers_that_no_event_has() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    feed = EventFeed(stores.events, clock)
    await stores.audit.append(changes(1, 2))
    await feed.step()
    stores.audit.renewals += 1
    await feed.step()
    assert feed.known is not None
    jumped = feed.known.sequence
    assert jumped > 1_000_000
    batch = await feed.next(0)
    assert (numbers(list(batch.events)), batch.reached, batch.lost) == ([1, 2], 2, False)
    assert await feed.next(2) == EventBatch([], jumped), "a reader that stays at 2 would read again and again"
    assert await feed.next(jumped) == EventBatch((), jumped)
    await stores.audit.append(changes(3, 3))
    await feed.step()
    for place in (2, jumped):
        batch = await feed.next(place)
        assert (numbers(list(batch.events)), batch.reached, batch.lost) == ([jumped + 1], jumped + 1, False)


@virtual_time
async def test_next_tells_that_events_were_deleted() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    feed = EventFeed(stores.events, clock)
    await stores.audit.append(changes(1, 5))
    await feed.step()
    await stores.events.purge(1e12, 3)
    batch = await feed.next(0)
    assert (numbers(list(batch.events)), batch.reached, batch.lost) == ([4, 5], 5, True)
    batch = await feed.next(3)
    assert (numbers(list(batch.events)), batch.reached, batch.lost) == ([4, 5], 5, False)
    await stores.events.purge(1e12, 10)
    assert await feed.next(3) == EventBatch([], 5, lost=True)
    assert await feed.next(5) == EventBatch((), 5)


@virtual_time
async def test_end_is_known_only_by_a_recent_look() -> None:
    clock = LoopClock()
    stores = MemoryStores(clock)
    feed = EventFeed(stores.events, clock)
    assert not feed.is_end(0)
    task = asyncio.create_task(feed.run())
    await asyncio.sleep(10)
    assert feed.is_end(0)

    async def fail() -> EventHead:
        raise StoreUnavailableError

    stores.events.head = fail  # type: ignore[method-assign]
    await asyncio.sleep(10)
    assert not feed.is_end(0)
    task.cancel()


class SlowLog:
    """An event log each of whose calls takes a random time before and after its effect."""

    def __init__(self, log: Any, chance: random.Random) -> None:
        self._log = log
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._log, name)

        async def call(*arguments: object) -> Any:
            await asyncio.sleep(self._chance.choice([0, 0, 0.001, 0.1]))
            found = await method(*arguments)
            await asyncio.sleep(self._chance.choice([0, 0, 0.001, 0.1]))
            return found

        return call


@pytest.mark.parametrize("seed", range(60))
@virtual_time
async def test_reader_gets_every_event_in_order_and_soon(seed: int) -> None:
    """Two nodes move events, one reader follows each, the numbers jump, and calls overlap in every way."""
    clock, chance = LoopClock(), random.Random(seed)
    stores = MemoryStores(clock)
    feeds = [EventFeed(SlowLog(stores.events, chance), clock) for _ in range(2)]
    seen: list[list[str]] = [[], []]

    async def follow(number: int) -> None:
        place = 0
        while True:
            batch = await feeds[number].next(place, chance.randint(1, 4))
            if batch.reached == place:
                await feeds[number].wait(place, 1e6)
            assert not batch.lost
            assert batch.reached >= place
            place = batch.reached
            seen[number] += [event.row.target for event in batch.events if event.row is not None]

    tasks = [asyncio.create_task(feed.run()) for feed in feeds]
    tasks += [asyncio.create_task(follow(number)) for number in range(2)]
    for number in range(30):
        await stores.audit.append(changes(number, number))
        if chance.random() < 0.1:
            stores.audit.renewals += 1
        if chance.random() < 0.3:
            chance.choice(feeds).wake()
        await asyncio.sleep(chance.choice([0, 0.001, 0.05, 0.7]))
    await asyncio.sleep(10)
    expected = [f"c-{number}" for number in range(30)]
    assert seen == [expected, expected]
    for task in tasks:
        assert not task.done()
        task.cancel()
