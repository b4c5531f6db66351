"""Two threads at every possible switch between them, without threads.

A trace function counts the points of a call at which the interpreter could switch to another thread, and runs
the other thread's steps at chosen ones. So each order is tried once, and a failure names its points.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement
from types import FrameType
from typing import Any, TypeVar

_T = TypeVar("_T")
_PLACES = (
    "/token_service/client/",
    "/tokens/revocation_set.py",
    "/tokens/fingerprint_set.py",
    "/tokens/verified_cache.py",
)
"""Only code that reads what the other thread writes: verifying a signature takes thousands of points and reads none."""


def count_points(call: Callable[[], Any], *, opcodes: bool = False) -> int:
    """How many points a call has: one before each line, or before each bytecode instruction."""
    return _run(call, (), (), opcodes=opcodes)[1]


def interleave(
    call: Callable[[], _T],
    steps: Sequence[Callable[[], object]],
    points: Sequence[int],
    *,
    opcodes: bool = False,
) -> _T:
    """The result of `call`, with each step run at its point; steps whose point never comes run afterwards."""
    result: _T = _run(call, steps, points, opcodes=opcodes)[0]
    return result


def orders(points: int, steps: int) -> Iterator[tuple[int, ...]]:
    """All ways to place steps, in their order, at the points of a call."""
    return combinations_with_replacement(range(points), steps)


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
        if stepping or not any(place in frame.f_code.co_filename for place in _PLACES):
            return None
        frame.f_trace_opcodes = opcodes
        if event == event_of_a_point:
            while due and due[0][0] <= count:
                stepping = True
                try:
                    due.pop(0)[1]()
                finally:
                    stepping = False
            count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = call()
    finally:
        sys.settrace(before)
    for _, step in due:
        step()
    return result, count
