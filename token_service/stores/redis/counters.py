"""Counters of the rates on Redis, shared by all nodes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from token_service.core.policies.rates import Rate
from token_service.stores.redis import layout
from token_service.stores.redis.connection import connect, limited

_SOONEST: Final = 0.001
"""Seconds to wait if the oldest call of a window leaves it between two commands."""


class RedisCounters:
    """Implements `SharedCounters` with the moving windows of the library `limits`.

    Redis keeps the time of each admitted call of a window, by the wall clock of the node that admitted it: windows are as
    exact as the clocks of the nodes agree. It is an async context manager, and connects on first use.
    """

    def __init__(self, url: str) -> None:
        """Create counters for a `redis://`, `rediss://` or `unix://` URL, including the password."""
        self._redis = connect(url)
        self._limiter = MovingWindowRateLimiter(
            RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=layout.ROOT,
                connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # typed for options of a URL only
            )
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def take(self, log: str, key: str, rate: Rate) -> float:
        """Count one call; return 0, or the seconds to wait."""
        item = RateLimitItemPerSecond(rate.amount, rate.period, layout.rates(log))
        async with limited():
            if await self._limiter.hit(item, key):
                return 0.0
            window = await self._limiter.get_window_stats(item, key)
        return max(_SOONEST, window.reset_time - time.time())

    async def ping(self) -> None:
        """Connect, if no connection is open, and ask for an answer."""
        async with limited():
            await self._redis.ping()

    def __repr__(self) -> str:
        return "<RedisCounters>"
