"""An event loop whose time jumps to the next timer. Tests of timeouts take no time and are deterministic."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")

START = 1_800_000_000.0
"""The wall clock at the start of a loop."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits for something that will never happen")
        self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop that runs all ready tasks and then sets its time to the next timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        # After months the steps between two floating-point numbers are wider than the loop's nanosecond.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._jumping.now


class LoopClock:
    """The clocks of the running virtual loop. `skew` moves only the wall clock."""

    def __init__(self) -> None:
        self.skew = 0.0

    def now(self) -> float:
        return START + self.skew + self.monotonic()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> float:
        return START + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a coroutine test in a virtual loop. Fails if it leaves a task behind."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(_leaving_nothing(test(*args, **kwargs)))

    return run


async def _leaving_nothing(test: Coroutine[Any, Any, None]) -> None:
    await test
    await settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"still running: {left}"


async def settle() -> None:
    """Run all ready tasks without letting time pass."""
    for _ in range(20):
        await asyncio.sleep(0)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended; it must end by the cancellation."""
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task
