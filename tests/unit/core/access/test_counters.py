"""Counters admit no more than the rate, in the memory of a process and together with a shared store."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

import pytest
from hypothesis import given, strategies as st

from tests.support.manual_clock import ManualClock
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.access import counters as module
from token_service.core.access.counters import Counters, MemoryCounters
from token_service.core.policies.rates import Rate
from token_service.errors import StoreUnavailableError

LOG = "log-1"


class Shared:
    """Counters for several nodes, that can be away or silent."""

    def __init__(self, clock: ManualClock | LoopClock) -> None:
        self._memory = MemoryCounters(clock.elapsed if isinstance(clock, ManualClock) else clock.monotonic)
        self.server = "memory"
        self.asked = 0
        self.pings = 0
        self.away = False
        self.silent = False

    async def take(self, log: str, key: str, rate: Rate) -> float:
        assert log == LOG
        self.asked += 1
        await self._answer()
        return self._memory.take(key, rate)

    async def ping(self) -> None:
        self.pings += 1
        await self._answer()

    async def _answer(self) -> None:
        if self.silent:
            await asyncio.sleep(1.0)
        if self.silent or self.away:
            raise StoreUnavailableError("Redis is unavailable (test)")


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def admitted(counters: Counters, key: str, rate: Rate, calls: int) -> int:
    return sum([await counters.take(LOG, key, rate) == 0 for _ in range(calls)])


# --- Memory -----------------------------------------------------------------------------------------------------------


def test_rate_is_admitted_and_the_next_call_is_told_when_to_return() -> None:
    clock = ManualClock(elapsed=0.0)
    memory, rate = MemoryCounters(clock.elapsed), Rate(3, 16)
    assert [memory.take("a", rate) for _ in range(3)] == [0, 0, 0]
    # The calls fell into the first of 16 parts of one second, which has left the window after 17 seconds.
    assert memory.take("a", rate) == pytest.approx(17.0, abs=0.01)
    assert memory.take("b", rate) == 0
    assert memory.take("a", Rate(4, 16)) == 0, "another rate counts for itself"
    clock.advance(16.9)
    assert memory.take("a", rate) == pytest.approx(0.1, abs=0.01)
    clock.advance(0.2)
    assert [memory.take("a", rate) for _ in range(3)] == [0, 0, 0]
    assert memory.take("a", rate) > 0


@given(
    steps=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 90)), max_size=300),
    amount=st.integers(1, 8),
    period=st.integers(1, 60),
)
def test_no_window_admits_more_than_the_amount(
    steps: list[tuple[str, float]], amount: int, period: int
) -> None:
    clock = ManualClock(elapsed=0.0)
    memory, rate = MemoryCounters(clock.elapsed), Rate(amount, period)
    times: dict[str, list[float]] = defaultdict(list)
    for key, pause in steps:
        clock.advance(pause / 20)
        if memory.take(key, rate) == 0:
            times[key].append(clock.elapsed())
    for admissions in times.values():
        for first, after in zip(admissions, admissions[amount:], strict=False):
            assert after - first > period


@given(pauses=st.lists(st.floats(0, 5), min_size=1, max_size=50), amount=st.integers(1, 5))
def test_refused_call_is_admitted_after_its_wait(pauses: list[float], amount: int) -> None:
    clock = ManualClock(elapsed=12_345.678)
    memory, rate = MemoryCounters(clock.elapsed), Rate(amount, 7)
    for pause in pauses:
        clock.advance(pause)
        wait = memory.take("a", rate)
        if wait:
            assert wait <= 7 * 17 / 16 + 0.01
            clock.advance(wait)
            assert memory.take("a", rate) == 0


def test_call_that_is_given_back_can_be_taken_again() -> None:
    memory, rate = MemoryCounters(ManualClock().elapsed), Rate(2, 60)
    memory.take("a", rate)
    memory.take("a", rate)
    memory.give_back("a", rate)
    assert memory.take("a", rate) == 0
    assert memory.take("a", rate) > 0
    memory.give_back("b", rate)  # never taken
    for _ in range(3):
        memory.give_back("a", rate)
    assert [memory.take("a", rate) == 0 for _ in range(3)] == [True, True, False]


def test_memory_is_bounded_and_keeps_the_fullest_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WINDOWS", 10)
    clock = ManualClock()
    memory, rate = MemoryCounters(clock.elapsed), Rate(5, 60)
    for _ in range(5):
        memory.take("full", rate)
    for number in range(1000):
        memory.take(str(number), rate)
        assert len(memory) <= 10
    assert memory.take("full", rate) > 0


def test_ended_windows_are_forgotten_before_those_that_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WINDOWS", 10)
    clock = ManualClock()
    memory, rate = MemoryCounters(clock.elapsed), Rate(5, 60)
    for number in range(9):
        for _ in range(5):
            memory.take(str(number), rate)
    clock.advance(70)
    for _ in range(3):
        memory.take("live", rate)
    memory.take("one more", rate)
    assert len(memory) == 2
    assert [memory.take("live", rate) == 0 for _ in range(3)] == [True, True, False]


# --- Shared with other nodes ------------------------------------------------------------------------------------------


async def test_nodes_count_together() -> None:
    clock = ManualClock()
    shared, rate = Shared(clock), Rate(10, 60)
    one, other = Counters(clock.elapsed, shared), Counters(clock.elapsed, shared)
    assert await admitted(one, "a", rate, 6) == 6
    assert await admitted(other, "a", rate, 6) == 4
    assert await one.take(LOG, "a", rate) == pytest.approx(60, abs=4)
    assert one.are_shared


async def test_calls_that_the_shared_counters_refuse_do_not_count_in_memory() -> None:
    clock = ManualClock()
    shared, rate = Shared(clock), Rate(10, 60)
    one, other = Counters(clock.elapsed, shared), Counters(clock.elapsed, shared)
    assert await admitted(one, "a", rate, 10) == 10
    assert await admitted(other, "a", rate, 30) == 0
    shared.away = True
    assert await admitted(other, "a", rate, 30) == 10, "the other process admitted none so far"


async def test_what_memory_refuses_does_not_reach_the_shared_counters() -> None:
    clock = ManualClock()
    shared = Shared(clock)
    assert await admitted(Counters(clock.elapsed, shared), "a", Rate(3, 60), 100) == 3
    assert shared.asked == 3


@virtual_time
async def test_memory_takes_over_and_gives_way() -> None:
    for how in ("away", "silent"):
        shared, rate = Shared(LoopClock()), Rate(10, 60)
        counters = Counters(LoopClock().monotonic, shared)
        assert await admitted(counters, "a", rate, 6) == 6
        setattr(shared, how, True)
        before = LoopClock().monotonic()
        assert await admitted(counters, "a", rate, 20) == 4, (
            "neither open nor failing, and its own share counts"
        )
        assert shared.asked == 7, "one call found out, no other asked"
        assert LoopClock().monotonic() - before == pytest.approx(0.05 if how == "silent" else 0.0)
        assert not counters.are_shared
        running = asyncio.create_task(counters.run())
        await asyncio.sleep(10)
        assert [shared.asked, counters.are_shared] == [7, False]
        setattr(shared, how, False)
        await asyncio.sleep(2.1)
        assert await admitted(counters, "b", rate, 11) == 10
        assert shared.asked == 17
        await stopped(running)


@virtual_time
async def test_unavailable_counters_are_tried_each_second_with_a_log_line_for_each_change() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    module.logger.addHandler(handler)
    module.logger.setLevel(logging.INFO)
    shared = Shared(LoopClock())
    shared.away = True
    counters = Counters(LoopClock().monotonic, shared)
    running = asyncio.create_task(counters.run())
    try:
        await asyncio.sleep(0.5)
        assert not counters.are_shared, "found out before any call"
        await asyncio.sleep(10)
        assert shared.pings == 11
        shared.away = False
        await asyncio.sleep(60)
        assert shared.pings == 12, "tried no more once it answers"
        await stopped(running)
    finally:
        module.logger.removeHandler(handler)
        module.logger.setLevel(logging.NOTSET)
    assert lines == [
        "each process counts the rates of calls by itself until Redis answers: Redis is unavailable (test)",
        "the rates of calls are counted for all nodes together again",
    ]


@virtual_time
async def test_concurrent_calls_wait_50_ms_at_most() -> None:
    shared = Shared(LoopClock())
    shared.silent = True
    counters = Counters(LoopClock().monotonic, shared)
    waits = await asyncio.gather(*(counters.take(LOG, "a", Rate(30, 60)) for _ in range(50)))
    assert waits.count(0) == 30
    assert LoopClock().monotonic() == pytest.approx(0.05)


@virtual_time
async def test_cancelled_call_leaves_the_shared_counters_in_use() -> None:
    shared = Shared(LoopClock())
    counters = Counters(LoopClock().monotonic, shared)
    shared.silent = True
    call = asyncio.create_task(counters.take(LOG, "a", Rate(10, 60)))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counters.are_shared


async def test_without_a_store_there_is_nothing_to_reach() -> None:
    counters = Counters(ManualClock().elapsed)
    await counters.run()
    assert await admitted(counters, "a", Rate(3, 60), 5) == 3
    assert not counters.are_shared
