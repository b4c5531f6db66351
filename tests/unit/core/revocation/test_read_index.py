"""A call gets a head that was read after the call arrived. Calls share a read where this rule allows it."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from tests.unit.core.virtual_time import VirtualTimeLoop, cancelled, settle, virtual_time
from token_service.core.revocation.log import LogHead
from token_service.core.revocation.read_index import ReadIndex
from token_service.errors import StoreUnavailableError


class SlowLog:
    """A log whose reads end when the test ends them.

    A read returns the number of the moment at which the read began.
    """

    def __init__(self) -> None:
        self.moment = 0
        self.under_way: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.reads = 0

    async def head(self) -> LogHead:
        self.moment += 1
        self.reads += 1
        began = self.moment
        done = asyncio.get_running_loop().create_future()
        self.under_way.append((began, done))
        await done
        return LogHead("epoch-one", began, 0, 0)

    def finish(self, error: Exception | None = None) -> None:
        _, done = self.under_way.popleft()
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def index_of(log: Any) -> ReadIndex:
    """Return an index over a log that can only read its head."""
    return ReadIndex(log)


def call(index: ReadIndex) -> asyncio.Task[LogHead]:
    return asyncio.create_task(index.head())


@virtual_time
async def test_a_call_does_not_join_a_read_that_began_before_it():
    log = SlowLog()
    index = index_of(log)
    first = call(index)
    await settle()
    assert log.reads == 1
    log.moment = 100  # an acknowledgment, after the read began
    second = call(index)
    await settle()
    log.finish()
    assert (await first).sequence == 1
    await settle()
    assert log.reads == 2
    log.finish()
    assert (await second).sequence == 101


@virtual_time
async def test_calls_that_wait_for_the_next_read_share_it():
    log = SlowLog()
    index = index_of(log)
    first = call(index)
    await settle()
    others = [call(index) for _ in range(50)]
    await settle()
    log.finish()
    await settle()
    assert log.reads == 2
    log.finish()
    heads = await asyncio.gather(first, *others)
    assert [head.sequence for head in heads] == [1, *[2] * 50]
    assert log.reads == 2


@virtual_time
async def test_call_after_all_reads_ended_reads_at_once():
    log = SlowLog()
    index = index_of(log)
    for number in range(1, 4):
        task = call(index)
        await settle()
        assert log.reads == number
        log.finish()
        assert (await task).sequence == number


@virtual_time
async def test_failure_reaches_only_calls_that_joined_the_read():
    log = SlowLog()
    index = index_of(log)
    first = call(index)
    await settle()
    joined = [call(index), call(index)]
    await settle()
    log.finish(StoreUnavailableError())
    await settle()
    later = call(index)
    await settle()
    log.finish()
    with pytest.raises(StoreUnavailableError):
        await first
    assert [(await task).sequence for task in joined] == [2, 2]
    await settle()
    log.finish()
    assert (await later).sequence == 3


@virtual_time
async def test_failing_shared_read_fails_its_calls_and_the_next_read_succeeds():
    log = SlowLog()
    index = index_of(log)
    first = call(index)
    await settle()
    joined = [call(index), call(index)]
    await settle()
    log.finish()
    await settle()
    log.finish(StoreUnavailableError())
    assert (await first).sequence == 1
    results = await asyncio.gather(*joined, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailableError] * 2
    again = call(index)
    await settle()
    log.finish()
    assert (await again).sequence == 3


@virtual_time
async def test_cancelled_caller_does_not_cancel_the_shared_read():
    log = SlowLog()
    index = index_of(log)
    first = call(index)
    await settle()
    leaving, staying = call(index), call(index)
    await settle()
    await cancelled(first)
    await cancelled(leaving)
    later = call(index)
    await settle()
    log.finish()
    await settle()
    log.finish()
    assert (await staying).sequence == 2
    assert (await later).sequence == 2


@virtual_time
async def test_failure_without_waiting_callers_is_not_reported_as_unretrieved():
    log = SlowLog()
    index = index_of(log)
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    task = call(index)
    await settle()
    await cancelled(task)
    log.finish(StoreUnavailableError())
    await settle()
    del task  # its traceback still holds the read
    gc.collect()
    assert not problems
    again = call(index)
    await settle()
    log.finish()
    assert (await again).sequence == 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["call", "finish", "fail", "leave", "go on"]), max_size=40))
def test_no_call_gets_a_read_that_began_before_it_in_any_order(steps: list[str]):
    async def scenario() -> None:
        log = SlowLog()
        index = index_of(log)
        calls: list[tuple[int, asyncio.Task[LogHead]]] = []
        for step in steps:
            if step == "call":
                log.moment += 1
                calls.append((log.moment, call(index)))
                await asyncio.sleep(0)
            elif step in {"finish", "fail"} and log.under_way:
                log.finish(StoreUnavailableError() if step == "fail" else None)
            elif step == "leave" and calls:
                calls.pop(len(calls) // 2)[1].cancel()
            elif step == "go on":
                await settle()
        for _ in range(3):  # at most one under way and one after it
            await settle()
            while log.under_way:
                log.finish()
        await settle()
        for arrived, task in calls:
            assert task.done()
            if task.exception() is None:
                assert task.result().sequence > arrived

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
