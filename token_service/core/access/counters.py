"""Counters of calls: in the memory of a process, and in a store that all nodes share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from token_service.core.policies.rates import Rate
from token_service.errors import StoreUnavailableError

_SLOTS: Final = 16
"""Parts of a window. A call counts until the part that it fell into has left the window entirely."""
_MAX_WINDOWS: Final = 20_000
"""Windows of a process. One takes about half a kilobyte, and five times as much with calls in all of its parts."""
_TIMEOUT: Final = 0.05
"""Seconds for which a call waits for the shared counters."""
_PAUSE: Final = 1.0
"""Seconds between two attempts while the shared counters are unavailable."""

logger = logging.getLogger(__name__)


class SharedCounters(Protocol):
    """The port: counters that all nodes share. Data that outlives its window is deleted by the store."""

    @property
    def server(self) -> str:
        """The server in use, for operators; empty: none is known."""
        ...

    async def take(self, log: str, key: str, rate: Rate) -> float:
        """Count one call; return 0. If the rate is reached, count nothing and return the seconds to wait.

        `log` is the epoch of the revocation log, which tells services with one store apart. `key` is a digest.
        Raises `StoreUnavailableError`.
        """
        ...

    async def ping(self) -> None:
        """Reach the store within its own time limit. Raises `StoreUnavailableError`."""
        ...


class MemoryCounters:
    """Moving windows in the memory of one process. In any period a key is admitted at most `amount` times.

    For one event loop.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._windows: dict[tuple[str, Rate], dict[int, int]] = {}
        """Admitted calls by the number of the slot."""

    def __len__(self) -> int:
        return len(self._windows)

    def take(self, key: str, rate: Rate) -> float:
        """Count one call; return 0. If the rate is reached, count nothing and return the seconds to wait."""
        now = self._monotonic()
        width = rate.period / _SLOTS
        slot = int(now / width)
        window = self._windows.get((key, rate))
        if window is None:
            if len(self._windows) >= _MAX_WINDOWS:
                self._forget(now)
            self._windows[key, rate] = {slot: 1}
            return 0.0
        while window and (oldest := next(iter(window))) < slot - _SLOTS:
            del window[oldest]
        if sum(window.values()) >= rate.amount:
            return (next(iter(window)) + _SLOTS + 1) * width - now
        window[slot] = window.get(slot, 0) + 1
        return 0.0

    def give_back(self, key: str, rate: Rate) -> None:
        """Undo the latest `take`."""
        window = self._windows.get((key, rate))
        if window:
            newest = next(reversed(window))
            if window[newest] > 1:
                window[newest] -= 1
            else:
                del window[newest]

    def _forget(self, now: float) -> None:
        """Forget ended windows, then those that are least full, until half are left."""
        live = [
            (sum(window.values()) / key[1].amount, key)
            for key, window in self._windows.items()
            if window and next(reversed(window)) >= int(now / (key[1].period / _SLOTS)) - _SLOTS
        ]
        live.sort(key=lambda item: item[0], reverse=True)
        self._windows = {key: self._windows[key] for _, key in live[: _MAX_WINDOWS // 2]}


class Counters:
    """Counts calls in memory, and in the shared counters while they answer.

    Memory counts first: a process admits no more than the rate even if the shared counters lose their data, and it
    knows its own share when they become unavailable. The call that finds them unavailable waits 50 ms at most. No call
    asks them again before `run` has reached them.
    """

    def __init__(self, monotonic: Callable[[], float], shared: SharedCounters | None = None) -> None:
        self._shared = shared
        self._memory = MemoryCounters(monotonic)
        self._lost = asyncio.Event()

    @property
    def are_shared(self) -> bool:
        """Whether all nodes count together."""
        return self._shared is not None and not self._lost.is_set()

    @property
    def server(self) -> str | None:
        """The server of the shared counters; empty: none is known; None: there are no shared counters."""
        return None if self._shared is None else self._shared.server

    async def take(self, log: str, key: str, rate: Rate) -> float:
        """Count one call; return 0. If the rate is reached, return the seconds to wait."""
        wait = self._memory.take(key, rate)
        if wait or self._shared is None or self._lost.is_set():
            return wait
        try:
            async with asyncio.timeout(_TIMEOUT):
                wait = await self._shared.take(log, key, rate)
        except (StoreUnavailableError, TimeoutError) as error:
            self._lose(error)
            return 0.0
        if wait:
            self._memory.give_back(key, rate)
        return wait

    async def run(self) -> None:
        """Reach the shared counters, and try again each second while they are unavailable, until cancelled."""
        shared = self._shared
        while shared is not None:
            try:
                await shared.ping()
            except StoreUnavailableError as error:
                self._lose(error)
            else:
                self._find()
            await self._lost.wait()
            await asyncio.sleep(_PAUSE)

    def _find(self) -> None:
        if self._lost.is_set():
            self._lost.clear()
            logger.info("the rates of calls are counted for all nodes together again")

    def _lose(self, error: Exception) -> None:
        if not self._lost.is_set():
            self._lost.set()
            cause = error.message if isinstance(error, StoreUnavailableError) else "no answer within 50 ms"
            logger.warning("each process counts the rates of calls by itself until Redis answers: %s", cause)
