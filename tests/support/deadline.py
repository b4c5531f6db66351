"""Polling with a deadline, for everything that becomes true a little later.

The deadline is for what hangs. A machine that is busy with other things may take long, and waiting costs a
test that passes nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class DeadlineExceededError(AssertionError):
    """The condition did not become true in time."""


def _overdue(timeout: float, last: object, failure: AssertionError | None) -> DeadlineExceededError:
    what = f"last failure: {failure}" if failure is not None else f"last value: {last!r}"
    return DeadlineExceededError(f"not true within {timeout} s; {what}")


async def eventually(
    predicate: Callable[[], T | Awaitable[T]], *, timeout: float = 120, interval: float = 0.02
) -> T:
    """Call `predicate`, plain or async, until it returns something true, and return that.

    An `AssertionError` counts as not yet; any other exception ends the wait. `timeout` and `interval`
    are seconds. Raises `DeadlineExceededError`, and the predicate is cancelled if it is still running then.
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
    raise _overdue(timeout, value, failure) from failure


def eventually_sync(predicate: Callable[[], T], *, timeout: float = 120, interval: float = 0.02) -> T:
    """As `eventually`, for code without an event loop."""
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
    raise _overdue(timeout, value, failure) from failure
