"""Two threads at every possible switch between them.

A trace function counts the points of a call at which the interpreter could switch to another thread, and runs the
steps of the other thread at chosen points. So each order is tried once, and a failure names its points. `Stopped`
stops a second call at a point, so that both calls run concurrently.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import combinations_with_replacement
from types import FrameType
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")
_PLACES = (
    "/token_service/client/",
    "/tokens/revocation_set.py",
    "/tokens/fingerprint_set.py",
    "/tokens/verified_cache.py",
)
"""Only code that reads data of the other thread. Verifying a signature has thousands of points and reads none."""


def count_points(call: Callable[[], Any], *, opcodes: bool = False) -> int:
    """Return the number of points of a call: one before each line, or before each bytecode instruction."""
    return _run(call, (), (), opcodes=opcodes)[1]


def interleave(
    call: Callable[[], _T],
    steps: Sequence[Callable[[], object]],
    points: Sequence[int],
    *,
    opcodes: bool = False,
) -> _T:
    """Return the result of `call`, with each step run at its point. Steps with unreached points run afterwards."""
    result: _T = _run(call, steps, points, opcodes=opcodes)[0]
    return result


class Stopped(Generic[_T]):
    """A call in its own thread that stops before one of its lines."""

    def __init__(self, call: Callable[[], _T], point: int) -> None:
        self._stopped = threading.Event()
        self._go_on = threading.Event()
        self._results: list[_T] = []
        self._thread = threading.Thread(target=self._run, args=(call, point), daemon=True)
        self._thread.start()
        assert self._stopped.wait(60)

    def finish(self) -> _T:
        """Resume the call and return its result."""
        self._go_on.set()
        self._thread.join(60)
        return self._results[0]

    def _run(self, call: Callable[[], _T], point: int) -> None:
        try:
            self._results.append(interleave(call, (self._stop,), (point,)))
        finally:
            self._stopped.set()

    def _stop(self) -> None:
        self._stopped.set()
        assert self._go_on.wait(60)


def orders(points: int, steps: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to place steps, in their order, at the points of a call."""
    return combinations_with_replacement(range(points), steps)


@cache
def _has_points(file: str) -> bool:
    return any(place in file for place in _PLACES)


def _run(
    call: Callable[[], Any],
    steps: Sequence[Callable[[], object]],
    points: Sequence[int],
    *,
    opcodes: bool,
) -> tuple[Any, int]:
    count, due, stepping = 0, list(zip(points, steps, strict=True)), False
    event_of_a_point = "opcode" if opcodes else "line"

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count, stepping
        if stepping or not _has_points(frame.f_code.co_filename):
            return None
        frame.f_trace_opcodes = opcodes
        if event == event_of_a_point:
            while due and due[0][0] <= count:
                stepping = True
                try:
                    due.pop(0)[1]()
                finally:
                    stepping = False
                if not due:
                    sys.settrace(before)  # the rest of the call has no step, and tracing is slow
            count += 1
        return trace

    before = sys.gettrace()
    if opcodes:
        # Python 3.12 reports opcodes only if a frame asked for them before the trace function was set.
        sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(before)
    for _, step in due:
        step()
    return result, count
