"""All stores of one SQL database."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from token_service.stores.sql import migrations
from token_service.stores.sql.clients import SqlClientStore
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

    The constructor and `__aenter__` do no I/O. `__aexit__` finishes the queued calls and closes every connection.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Create the stores with at most `pool_size` connections to PostgreSQL, but at least 3.

        Raises `ConfigurationError` for an unreadable URL.
        """
        self._database: Final = Database(url, pool_size=pool_size)
        self.sessions: Final = SqlSessionStore(self._database)
        self.log: Final = SqlRevocationLog(self._database)
        self.keys: Final = SqlKeyStore(self._database)
        self.clients: Final = SqlClientStore(self._database)
        self.leases: Final = SqlLeaseStore(self._database)
        self.nodes: Final = SqlNodeStore(self._database)

    @property
    def trouble(self) -> str | None:
        """The reason why no write can succeed, or None if no such reason is known. `watch` detects its end."""
        return self._database.space.trouble

    async def watch(self) -> None:
        """Test whether writes succeed again while none can. Runs until cancelled."""
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
        """Migrate the schema, and return its revision. Several nodes may call this method at once.

        Raises `ConfigurationError` if the schema is from a newer version of the token service, and
        `StoreUnavailableError`.
        """
        await migrations.migrate(self._database.url)
        return migrations.HEAD

    async def require_current(self) -> None:
        """Raise `ConfigurationError` unless the schema has the revision of this version.

        Also raises `StoreUnavailableError`.
        """
        await migrations.require_current(self._database.url)
