"""Deadlines of requests, kept by one timer."""

from __future__ import annotations

import asyncio

import pytest

from token_service.errors import DeadlineExceededError
from token_service.web.deadlines import Deadlines


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def at_once() -> int:
    return 1


async def test_result_in_time_is_returned() -> None:
    assert await Deadlines(60).keep(at_once()) == 1


async def test_task_beyond_its_deadline_ends_and_goes_on_uncancelled() -> None:
    with pytest.raises(DeadlineExceededError):
        await Deadlines(0.01).keep(asyncio.Event().wait())
    assert cancellations() == 0
    await asyncio.sleep(0)


async def test_only_the_late_task_of_several_ends() -> None:
    deadlines, go_on = Deadlines(0.1), asyncio.Event()
    late = asyncio.create_task(deadlines.keep(asyncio.Event().wait()))
    early = asyncio.create_task(deadlines.keep(go_on.wait()))
    await asyncio.sleep(0)
    go_on.set()
    assert await early is True
    with pytest.raises(DeadlineExceededError):
        await late


async def test_deadline_is_kept_again_after_a_time_without_tasks() -> None:
    deadlines = Deadlines(0.01)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError):
            await deadlines.keep(asyncio.Event().wait())
        watching = [deadlines._is_watching]
        while watching[-1]:
            await asyncio.sleep(0)
            watching.append(deadlines._is_watching)
    assert not deadlines._until


async def test_cancellation_from_outside_is_no_deadline() -> None:
    task = asyncio.create_task(Deadlines(60).keep(asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_from_outside_beats_a_deadline_that_has_passed() -> None:
    deadlines = Deadlines(0)
    task = asyncio.create_task(deadlines.keep(asyncio.Event().wait()))
    await asyncio.sleep(0)
    deadlines._check(asyncio.get_running_loop())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_result_of_a_task_that_ignores_its_deadline_is_returned() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    assert await Deadlines(0.01).keep(stubborn()) == "done"
    assert cancellations() == 0
