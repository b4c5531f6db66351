from __future__ import annotations

import asyncio

from tests.support.memory_audit import MemorySampleStore
from tests.unit.core.virtual_time import START, LoopClock, virtual_time
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.samples import SAMPLE_INTERVAL, SAMPLES_KEPT, CursorSampler


@virtual_time
async def test_a_subscriber_is_sampled_only_when_its_cursor_has_moved() -> None:
    clock = LoopClock()
    store, subscribers = MemorySampleStore(), Subscribers(clock)
    subscribers.epoch = "log"
    task = asyncio.create_task(CursorSampler(store, subscribers, clock).run())
    subscribers.connect("a")
    await asyncio.sleep(SAMPLE_INTERVAL + 0.5)
    assert store.samples == []
    for sequence in range(1, 21):  # moves once a second
        subscribers.confirm("a", sequence)
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    assert [(each.time - START, each.sequence) for each in store.samples] == [
        (10.0, 5),
        (15.0, 10),
        (20.0, 15),
        (25.0, 20),
    ]
    await asyncio.sleep(SAMPLES_KEPT + 3600)
    assert store.samples == []
    task.cancel()
