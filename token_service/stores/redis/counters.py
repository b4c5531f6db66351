"""Counters of the rates on Redis, shared by all nodes."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis

from token_service.core.policies.rates import Rate
from token_service.redis_clients import RedisAccess, RedisClients
from token_service.stores.redis import layout
from token_service.stores.redis.connection import limited

_SOONEST: Final = 0.001
"""Seconds to wait if the oldest call of a window leaves it between two commands."""


class _Storage(RedisStorage):
    """The storage of `limits` with a client of ours."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        super().__init__("async+redis://", implementation="redispy", key_prefix=layout.ROOT)

    def configure_bridge(self) -> None:
        """Use the client."""
        self.bridge.storage = self._client  # type: ignore[attr-defined]  # an attribute of the bridge for redis-py
        self.bridge.connection_getter = lambda _: self._client  # type: ignore[attr-defined]


class RedisCounters:
    """Implements `SharedCounters` with the moving windows of the library `limits`.

    Redis keeps the time of each admitted call of a window, by the wall clock of the node that admitted it: windows are as
    exact as the clocks of the nodes agree. It is an async context manager, and connects on first use.
    """

    def __init__(self, access: RedisAccess) -> None:
        """Create counters. Raises `ConfigurationError`."""
        self._clients = RedisClients(access)
        self._limiters: dict[str, MovingWindowRateLimiter] = {}
        """By the log: each log has a slot of its own in a Redis Cluster."""
        self._key = layout.EPOCH_KEY
        """The newest log's part of the keys: `ping` asks its server."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._clients.aclose()

    @property
    def server(self) -> str:
        """The server that holds the counters; empty: none is known."""
        return self._clients.server(self._key)

    async def take(self, log: str, key: str, rate: Rate) -> float:
        """Count one call; return 0, or the seconds to wait."""
        item = RateLimitItemPerSecond(rate.amount, rate.period, layout.rates(log))
        limiter = self._limiter(log)
        async with limited("count_rate"):
            if await limiter.hit(item, key):
                return 0.0
            window = await limiter.get_window_stats(item, key)
        return max(_SOONEST, window.reset_time - time.time())

    async def ping(self) -> None:
        """Connect, if no connection is open, and ask for an answer."""
        async with limited("ping"):
            await self._clients.at(self._key).ping()

    def _limiter(self, log: str) -> MovingWindowRateLimiter:
        limiter = self._limiters.get(log)
        if limiter is None:
            self._key = layout.prefix(log)
            limiter = self._limiters[log] = MovingWindowRateLimiter(_Storage(self._clients.at(self._key)))
        return limiter

    def __repr__(self) -> str:
        return "<RedisCounters>"
