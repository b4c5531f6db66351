"""All stores of one SQL database."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from token_service.stores.sql import migrations
from token_service.stores.sql.database import Database
from token_service.stores.sql.keys import SqlKeyStore
from token_service.stores.sql.leases import SqlLeaseStore
from token_service.stores.sql.nodes import SqlNodeStore
from token_service.stores.sql.revocation_log import SqlRevocationLog
from token_service.stores.sql.sessions import SqlSessionStore


class SqlStores:
    """The stores of `core.ports` on PostgreSQL or SQLite.

    async with SqlStores("postgresql://…") as stores:
        head = await stores.log.head()

    The constructor does no I/O but raises `ConfigurationError` for a URL it can't read. Entering raises `ConfigurationError` if the
    schema is not the one this version works with (with `migrate` it is brought up to date instead) and `StoreUnavailableError`.
    """

    def __init__(self, url: str, *, migrate: bool = False) -> None:
        self.database: Final = Database(url)
        self.sessions: Final = SqlSessionStore(self.database)
        self.log: Final = SqlRevocationLog(self.database)
        self.keys: Final = SqlKeyStore(self.database)
        self.leases: Final = SqlLeaseStore(self.database)
        self.nodes: Final = SqlNodeStore(self.database)
        self._migrate: Final = migrate

    async def __aenter__(self) -> Self:
        try:
            if self._migrate:
                await migrations.migrate(self.database.engine)
            else:
                await migrations.require_current(self.database.engine)
        except BaseException:
            await self.database.aclose()
            raise
        self.database.open()
        self.log.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.log.aclose()
        await self.database.aclose()
