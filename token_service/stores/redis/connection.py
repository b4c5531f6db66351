"""The time limit and the errors of operations in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.exceptions import RedisError

from token_service.errors import StoreUnavailableError
from token_service.redis_clients import cause_of
from token_service.telemetry.spans import client_span

TIMEOUT: Final = 1.0
"""Seconds for one operation, including the search for the server and the connection."""

_ATTRIBUTES: Final = {"db.system.name": "redis"}


@asynccontextmanager
async def limited(operation: str, *, waiting: float = 0.0) -> AsyncIterator[None]:
    """Limit the time of one operation and translate its errors. `operation` names it in traces.

    `waiting`: seconds that Redis itself may wait before it answers.
    """
    with client_span(operation, _ATTRIBUTES):
        try:
            async with asyncio.timeout(TIMEOUT + waiting):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(f"Redis is unavailable ({cause_of(error)})") from error
