"""The connections of SQLAlchemy's engine: how many are in use, and how long transactions wait for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool


class Pool:
    """Gives out the connections of an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine: Final = engine
        self._on_wait: Callable[[float], None] | None = None
        self.waiting = 0
        """Transactions that wait for a connection."""

    def on_wait(self, listener: Callable[[float], None]) -> None:
        """Call `listener` with the seconds that each transaction waited for its connection."""
        self._on_wait = listener

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for one transaction. Raises the errors of the engine."""
        async with AsyncExitStack() as stack:
            self.waiting += 1
            began = perf_counter()
            try:
                connection = await stack.enter_async_context(self._engine.connect())
            finally:
                self.waiting -= 1
                if self._on_wait is not None:
                    self._on_wait(perf_counter() - began)
            yield connection

    @property
    def used(self) -> int:
        """Connections in use."""
        return self._pool.checkedout()

    @property
    def idle(self) -> int:
        """Open connections that are not in use."""
        return self._pool.checkedin()

    @property
    def most(self) -> int:
        """Connections that may be open."""
        return self._pool.size() + self._pool._max_overflow  # noqa: SLF001 - the pool has no public name for it

    @property
    def _pool(self) -> QueuePool:
        pool = self._engine.sync_engine.pool
        assert isinstance(pool, QueuePool)
        return pool
