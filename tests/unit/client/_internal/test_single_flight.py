from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support.deadline import eventually_sync
from token_service.client._internal.single_flight import SingleFlight, ThreadSingleFlight


async def test_one_task_does_the_work_for_all_tasks() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    calls = 0
    go = asyncio.Event()

    async def work() -> int:
        nonlocal calls
        calls += 1
        await go.wait()
        return calls

    waiting = [asyncio.ensure_future(flights.do("a", work)) for _ in range(10)]
    other = asyncio.ensure_future(flights.do("b", work))
    await asyncio.sleep(0)
    assert len(flights) == 2
    waiting[0].cancel()
    go.set()
    results = await asyncio.gather(*waiting, other, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [2] * 10  # both flights saw the second call
    assert len(flights) == 0
    assert await flights.do("a", work) == 3


async def test_failure_reaches_every_waiting_task_and_is_not_remembered() -> None:
    flights: SingleFlight[str, int] = SingleFlight()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise OSError("away")

    async def work() -> int:
        return 1

    results = await asyncio.gather(flights.do("a", fail), flights.do("a", fail), return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    assert await flights.do("a", work) == 1


async def test_close_cancels_running_work() -> None:
    flights: SingleFlight[str, None] = SingleFlight()
    task = flights.begin("a", lambda: asyncio.sleep(60))
    await flights.close()
    assert task.cancelled()


def test_one_thread_does_the_work_for_all_threads() -> None:
    flights: ThreadSingleFlight[str, int] = ThreadSingleFlight()
    calls = 0
    began = threading.Event()
    go = threading.Event()
    results: list[int] = []

    def work() -> int:
        nonlocal calls
        calls += 1
        began.set()
        go.wait(10)
        return calls

    threads = [threading.Thread(target=lambda: results.append(flights.do("a", work))) for _ in range(8)]
    for thread in threads:
        thread.start()
    began.wait(10)
    time.sleep(0.1)  # the other threads begin to wait; a late one would only repeat the work
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(results) == 8
    assert len(flights) == 0


def test_thread_that_may_not_begin_joins_running_work() -> None:
    flights: ThreadSingleFlight[str, int] = ThreadSingleFlight()
    go = threading.Event()
    allowed = iter([True])
    results: list[int | None] = []

    def work() -> int:
        assert go.wait(60)
        return 1

    def ask() -> None:
        results.append(flights.do_if(lambda: next(allowed, False), "a", work))

    first = threading.Thread(target=ask)
    first.start()
    eventually_sync(lambda: len(flights) == 1)
    others = [threading.Thread(target=ask) for _ in range(3)]
    for thread in others:
        thread.start()
    assert flights.do_if(lambda: False, "b", work) is None
    go.set()
    for thread in (first, *others):
        thread.join(60)
    assert flights.do_if(lambda: False, "a", work) is None
    assert set(results) <= {1, None}  # None: it arrived after the work had ended
    assert 1 in results
    assert next(allowed, None) is None


def test_a_failure_in_a_thread_is_not_remembered() -> None:
    flights: ThreadSingleFlight[str, int] = ThreadSingleFlight()

    def fail() -> int:
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        flights.do("a", fail)
    assert flights.do("a", lambda: 1) == 1
