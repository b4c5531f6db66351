"""Consumers of the event log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.events.test_feed import changes
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.events.consumer import EventConsumer
from token_service.core.events.feed import EventFeed
from token_service.core.events.log import StoredEvent
from token_service.core.leases import Lease
from token_service.errors import StoreUnavailableError


class Reader:
    """A consumer of one node, and what it was handed."""

    def __init__(
        self, stores: MemoryStores, clock: LoopClock, node: str, seen: list[int], **options: bool
    ) -> None:
        self.feed = EventFeed(stores.events, clock)
        self.seen = seen
        self.failures = 0
        self.hangs = False
        self.fault: Exception | None = None
        lease = Lease(stores.leases, "mail", node)
        self.consumer = EventConsumer(
            "mail", stores.events, self.feed, lease, self.handle, batch=2, **options
        )
        self.tasks = [asyncio.create_task(self.feed.run()), asyncio.create_task(self.consumer.run())]

    async def handle(self, events: Sequence[StoredEvent]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError
        if self.fault is not None:
            raise self.fault
        self.seen.extend(event.sequence for event in events)
        if self.hangs:
            await asyncio.sleep(1e9)

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()


@virtual_time
async def test_each_event_is_handed_over_in_order_by_one_node() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    await stores.audit.append(changes(1, 2))
    await stores.events.sequence(10)
    nodes = [Reader(stores, clock, f"node-{number}", seen) for number in range(3)]
    await asyncio.sleep(1)
    await stores.audit.append(changes(3, 7))
    await asyncio.sleep(10)
    assert seen == [3, 4, 5, 6, 7], "a new consumer begins with the next event"
    assert await stores.events.positions() == {"mail": 7}
    for node in nodes:
        node.stop()


@virtual_time
async def test_new_consumer_may_begin_with_the_oldest_event() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    await stores.audit.append(changes(1, 3))
    node = Reader(stores, clock, "node-1", seen, from_earliest=True)
    await asyncio.sleep(5)
    assert seen == [1, 2, 3]
    node.stop()


@virtual_time
async def test_failed_batch_is_handed_over_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    node = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)
    node.failures = 3
    await stores.audit.append(changes(1, 3))
    await asyncio.sleep(2)
    assert (seen, node.consumer.problem) == ([], StoreUnavailableError().message)
    await asyncio.sleep(10)
    assert (seen, node.consumer.problem) == ([1, 2, 3], None)
    assert caplog.text.count("consumer mail can't handle events") == 1
    node.stop()


@virtual_time
async def test_another_node_repeats_the_batch_of_a_killed_one() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    killed = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)
    killed.hangs = True
    await stores.audit.append(changes(1, 3))
    await asyncio.sleep(100)
    assert seen == [1, 2], "the lease is renewed while the batch is handled"
    stores.leases.release = _nothing  # type: ignore[method-assign]  # as kill -9 leaves it
    killed.stop()
    other = Reader(stores, clock, "node-2", seen)
    await asyncio.sleep(30)
    assert seen == [1, 2, 1, 2, 3]
    other.stop()


@virtual_time
async def test_faulty_handler_is_called_again_with_pauses(caplog: pytest.LogCaptureFixture) -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    node = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)
    node.fault = KeyError("subject")
    await stores.audit.append(changes(1, 3))
    await asyncio.sleep(100)
    assert (seen, node.consumer.problem) == ([], "unexpected KeyError")
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage() == "consumer mail can't handle events, trying again: unexpected KeyError"
    assert record.exc_info is not None
    node.fault = None
    await asyncio.sleep(40)
    assert (seen, node.consumer.problem) == ([1, 2, 3], None)
    node.stop()


@virtual_time
async def test_consumer_passes_numbers_that_no_event_has() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    node = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)
    reads = []
    read = stores.events.read

    async def counted(after: int, limit: int) -> Sequence[StoredEvent]:
        reads.append(after)
        await asyncio.sleep(0.001)
        return await read(after, limit)

    stores.events.read = counted  # type: ignore[method-assign]
    stores.audit.renewals += 1
    await asyncio.sleep(60)
    head = await stores.events.head()
    assert head.sequence > 1_000_000
    assert await stores.events.positions() == {"mail": head.sequence}
    assert len(reads) <= 3
    await stores.audit.append(changes(1, 1))
    await asyncio.sleep(5)
    assert seen == [head.sequence + 1]
    node.stop()


@virtual_time
async def test_consumer_that_was_away_too_long_reports_it_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    await stores.events.start("mail", 2)
    await stores.audit.append(changes(1, 5))
    await stores.events.sequence(10)
    await stores.events.purge(1e12, 10)
    node = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(60)
    assert await stores.events.positions() == {"mail": 5}
    assert caplog.text.count("consumer mail misses events, which were deleted after their retention") == 1
    await stores.audit.append(changes(6, 6))
    await asyncio.sleep(5)
    assert seen == [6]
    node.stop()


@virtual_time
async def test_process_that_was_stopped_does_not_move_the_consumer_back() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    stopped = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)
    goes_on = asyncio.Event()

    async def handle(events: Sequence[StoredEvent]) -> None:
        await goes_on.wait()
        seen.extend(event.sequence for event in events)

    stopped.consumer._handle = handle
    await stores.audit.append(changes(1, 3))
    await asyncio.sleep(1)
    acquire = stores.leases.acquire

    async def only_of_others(name: str, holder: str, ttl: float) -> bool:
        return holder != "node-1" and await acquire(name, holder, ttl)

    stores.leases.acquire = only_of_others  # type: ignore[method-assign]  # a stopped process renews nothing
    other_seen: list[int] = []
    other = Reader(stores, clock, "node-2", other_seen)
    await asyncio.sleep(40)
    assert other_seen == [1, 2, 3]
    goes_on.set()
    await asyncio.sleep(10)
    assert seen == [1, 2]
    assert await stores.events.positions() == {"mail": 3}
    stores.leases.acquire = acquire  # type: ignore[method-assign]
    await stores.audit.append(changes(4, 4))
    await asyncio.sleep(10)
    assert (seen, other_seen) == ([1, 2], [1, 2, 3, 4])
    stopped.stop()
    other.stop()


@virtual_time
async def test_cancellation_while_a_renewal_ends_is_not_lost() -> None:
    clock, seen = LoopClock(), list[int]()
    stores = MemoryStores(clock)
    node = Reader(stores, clock, "node-1", seen)
    await asyncio.sleep(1)

    async def handle(events: Sequence[StoredEvent]) -> None:
        await asyncio.sleep(6)

    async def slow(name: str, holder: str, ttl: float) -> bool:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)  # such as the rollback of a transaction
        return True

    node.consumer._handle = handle
    await stores.audit.append(changes(1, 1))
    await asyncio.sleep(1)
    stores.leases.acquire = slow  # type: ignore[method-assign]
    await asyncio.sleep(5.5)
    node.stop()
    await asyncio.wait(node.tasks, timeout=10)
    assert all(task.cancelled() for task in node.tasks)


async def _nothing(name: str, holder: str) -> None:
    pass
