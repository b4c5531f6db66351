"""Connections to Redis, and the time limit and the errors of their operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from token_service.errors import StoreUnavailableError

_CONNECT_TIMEOUT: Final = 0.5
_MAX_CONNECTIONS: Final = 32
TIMEOUT: Final = 1.0
"""Seconds for one operation, including the connection."""


def connect(url: str) -> Redis:
    """Return a client for a `redis://`, `rediss://` or `unix://` URL. It connects on first use."""
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        socket_connect_timeout=_CONNECT_TIMEOUT,
        # The timeout of the client can swallow a cancellation that arrives while a command is sent
        # (asyncio.wait_for before Python 3.12). `limited` can't.
        socket_timeout=None,
        # One retry, for an idle connection that Redis has closed.
        retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        client_name="token-service",
        # More commands wait for a connection, as long as their time limit allows.
        max_connections=_MAX_CONNECTIONS,
        timeout=None,
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def limited(seconds: float = TIMEOUT) -> AsyncIterator[None]:
    """Limit the time of one operation and translate its errors."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailableError(f"Redis is unavailable ({type(error).__name__})") from error
