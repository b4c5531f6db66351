from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.unit.core.virtual_time import START, LoopClock, virtual_time
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.core.events.queue import MAX_QUEUED, RowQueue
from token_service.errors import StoreUnavailableError

EVENT = AuditEvent(action=Action.TOKEN_ISSUED, actor=Actor.system("test"))


class Rows:
    """Keeps batches; fails while `down`."""

    def __init__(self) -> None:
        self.batches: list[Sequence[AuditEvent]] = []
        self.down = False

    async def append(self, events: Sequence[AuditEvent]) -> None:
        if self.down:
            raise StoreUnavailableError("down", retry_after=1.0)
        self.batches.append(list(events))

    @property
    def count(self) -> int:
        return sum(map(len, self.batches))


@virtual_time
async def test_events_of_a_quarter_second_are_one_batch_with_their_own_times() -> None:
    rows = Rows()
    queue = RowQueue(rows.append, LoopClock())
    task = asyncio.create_task(queue.run())
    queue.put(EVENT)
    await asyncio.sleep(0.125)
    queue.put(EVENT)
    assert rows.batches == []
    await asyncio.sleep(0.2)
    assert [[event.time for event in batch] for batch in rows.batches] == [[START, START + 0.125]]
    task.cancel()


@virtual_time
async def test_events_wait_for_the_database_and_are_written_once() -> None:
    rows = Rows()
    rows.down = True
    queue = RowQueue(rows.append, LoopClock())
    task = asyncio.create_task(queue.run())
    for _ in range(600):
        queue.put(EVENT)
    await asyncio.sleep(5)
    assert rows.count == 0
    states = [queue.is_failing]
    rows.down = False
    await asyncio.sleep(5)
    assert [*states, queue.is_failing] == [True, False]
    assert [len(batch) for batch in rows.batches] == [256, 256, 88]
    task.cancel()


@virtual_time
async def test_overflow_is_counted_in_an_event_of_its_own() -> None:
    rows = Rows()
    queue = RowQueue(rows.append, LoopClock())
    for _ in range(MAX_QUEUED + 7):
        queue.put(EVENT)
    await queue.flush()
    lost = [event for batch in rows.batches for event in batch if event.action is Action.AUDIT_EVENTS_LOST]
    assert [event.fields for event in lost] == [{"count": 7}]
    assert rows.count == MAX_QUEUED + 1


@virtual_time
async def test_stopping_writes_the_queued_events() -> None:
    rows = Rows()
    queue = RowQueue(rows.append, LoopClock())
    task = asyncio.create_task(queue.run())
    await asyncio.sleep(0)
    queue.put(EVENT)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert rows.count == 1
