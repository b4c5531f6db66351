"""Polling with a deadline, for conditions that become true a little later.

The deadline only ends a test that hangs. It is long because a machine may be busy, and it costs a passing test
nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class DeadlineExceededError(AssertionError):
    """The condition did not become true in time."""


def _overdue(
    predicate: Callable[..., object], timeout: float, last: object, failure: AssertionError | None
) -> DeadlineExceededError:
    what = f"last failure: {failure}" if failure is not None else f"last value: {last!r}"
    return DeadlineExceededError(f"{_described(predicate)} was not true within {timeout} s; {what}")


def _described(predicate: Callable[..., object]) -> str:
    """Return the name and the place of a predicate."""
    function = predicate.func if isinstance(predicate, partial) else predicate
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    name = getattr(function, "__qualname__", repr(function))
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else name


@overload
async def eventually(
    predicate: Callable[[], Awaitable[T | None]], *, timeout: float = ..., interval: float = ...
) -> T: ...
@overload
async def eventually(
    predicate: Callable[[], T | None], *, timeout: float = ..., interval: float = ...
) -> T: ...
async def eventually(
    predicate: Callable[[], T | Awaitable[T | None] | None], *, timeout: float = 120, interval: float = 0.02
) -> T:
    """Call `predicate`, plain or async, until it returns a true value, and return that value.

    An `AssertionError` counts as a false value; any other exception ends the wait. `timeout` and `interval` are
    seconds. At the deadline, cancel a running predicate and raise `DeadlineExceededError`.
    """
    deadline = time.monotonic() + timeout
    value: T | None = None
    failure: AssertionError | None = None
    while (left := deadline - time.monotonic()) > 0:
        try:
            answer = predicate()
            if inspect.isawaitable(answer):
                value = await asyncio.wait_for(answer, left)
            else:
                value = answer
            failure = None
        except AssertionError as error:
            failure = error
        except TimeoutError:
            if time.monotonic() < deadline:
                raise
            break
        if failure is None and value:
            return value
        await asyncio.sleep(interval)
    raise _overdue(predicate, timeout, value, failure) from failure


def eventually_sync(predicate: Callable[[], T | None], *, timeout: float = 120, interval: float = 0.02) -> T:
    """Poll as `eventually` does, without an event loop."""
    deadline = time.monotonic() + timeout
    value: T | None = None
    failure: AssertionError | None = None
    while time.monotonic() < deadline:
        try:
            value = predicate()
            failure = None
        except AssertionError as error:
            failure = error
        if failure is None and value:
            return value
        time.sleep(interval)
    raise _overdue(predicate, timeout, value, failure) from failure
