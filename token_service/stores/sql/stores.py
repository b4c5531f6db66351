"""All stores of one SQL database."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from token_service.stores.sql import migrations
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.keys import SqlKeyStore
from token_service.stores.sql.leases import SqlLeaseStore
from token_service.stores.sql.nodes import SqlNodeStore
from token_service.stores.sql.revocation_log import SqlRevocationLog
from token_service.stores.sql.sessions import SqlSessionStore


class SqlStores:
    """The stores that `core` needs, on PostgreSQL or SQLite.

    async with SqlStores("postgresql://…") as stores:
        await stores.require_current()
        head = await stores.log.head()

    Neither the constructor nor entering does I/O; leaving finishes what was begun and closes every
    connection.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """`pool_size`: connections to PostgreSQL at most, and 3 at least.

        Raises `ConfigurationError` for a URL it can't read.
        """
        self._database: Final = Database(url, pool_size=pool_size)
        self.sessions: Final = SqlSessionStore(self._database)
        self.log: Final = SqlRevocationLog(self._database)
        self.keys: Final = SqlKeyStore(self._database)
        self.leases: Final = SqlLeaseStore(self._database)
        self.nodes: Final = SqlNodeStore(self._database)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written, as far as is known; `watch` finds out when it is over."""
        return self._database.space.trouble

    async def watch(self) -> None:
        """Until cancelled, try to write while nothing can be written."""
        await self._database.space.run()

    async def __aenter__(self) -> Self:
        self._database.open()
        self.log.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.log.aclose()
        finally:
            await self._database.aclose()

    async def migrate(self) -> str:
        """Bring the schema up to date and return its revision; safe when several nodes do it at once.

        Raises `ConfigurationError` if the schema is of a newer version of the service,
        `StoreUnavailableError`.
        """
        await migrations.migrate(self._database.url)
        return migrations.HEAD

    async def require_current(self) -> None:
        """Raise `ConfigurationError` unless the schema is the one this version works with;
        `StoreUnavailableError`.
        """
        await migrations.require_current(self._database.url)
