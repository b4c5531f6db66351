"""The contract of `SampleStore`."""

from __future__ import annotations

from tests.contract.builders import NOW
from token_service.core.subscribers.samples import CursorSample


async def test_first_sample_of_each_subscriber_that_has_an_entry(pair):
    one, other = pair
    await one.samples.add([
        CursorSample(NOW, "a", "log", 4),
        CursorSample(NOW, "b", "log", 6),
        CursorSample(NOW + 10, "a", "log", 5),
    ])  # fmt: skip
    await other.samples.add([CursorSample(NOW + 20, "a", "log", 9), CursorSample(NOW + 10, "c", "old", 9)])
    await other.samples.add([CursorSample(NOW + 10, "a", "log", 5)])
    found = await other.samples.first("log", 5, NOW - 1, NOW + 60)
    assert [(each.subscriber, each.time) for each in found] == [("a", NOW + 10), ("b", NOW)]
    found = await one.samples.first("log", 5, NOW + 11, NOW + 60)
    assert [(each.subscriber, each.time) for each in found] == [("a", NOW + 20)]
    assert await one.samples.first("log", 5, NOW - 60, NOW) == []


async def test_old_samples_are_purged_in_batches(stores):
    await stores.samples.add([CursorSample(NOW + number, "a", "log", number) for number in range(5)])
    assert await stores.samples.purge(NOW + 3, 2) == 2
    assert await stores.samples.purge(NOW + 3, 2) == 1
    assert await stores.samples.purge(NOW + 3, 2) == 0
    assert len(await stores.samples.first("log", 0, NOW - 9, NOW + 9)) == 1
