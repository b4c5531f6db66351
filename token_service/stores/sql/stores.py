"""All stores of one SQL database."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from token_service.core.events.chain import AuditKeys
from token_service.stores.sql import migrations
from token_service.stores.sql.audit import SqlAuditStore
from token_service.stores.sql.audit_chain import AuditChain
from token_service.stores.sql.clients import SqlClientStore
from token_service.stores.sql.device_requests import SqlDeviceRequests
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.keys import SqlKeyStore
from token_service.stores.sql.leases import SqlLeaseStore
from token_service.stores.sql.logouts import SqlLogoutStore
from token_service.stores.sql.nodes import SqlNodeStore
from token_service.stores.sql.revocation_log import SqlRevocationLog
from token_service.stores.sql.samples import SqlSampleStore
from token_service.stores.sql.sessions import SqlSessionStore
from token_service.stores.sql.used_ids import SqlUsedIds


class SqlStores:
    """The stores that `core` needs, on PostgreSQL or SQLite.

    async with SqlStores("postgresql://…") as stores:
        await stores.require_current()
        head = await stores.log.head()

    The constructor and `__aenter__` do no I/O. `__aexit__` finishes the queued calls and closes every connection.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, audit_keys: AuditKeys | None = None, node_id: str = ""
    ) -> None:
        """Create the stores with at most `pool_size` connections to PostgreSQL, but at least 3.

        `node_id` must be unique to the process: it names the chain of its audit events. Without `audit_keys` no change
        with an audit event succeeds.

        Raises `ConfigurationError` for an unreadable URL.
        """
        self._database: Final = Database(url, pool_size=pool_size)
        chain = AuditChain(audit_keys, node_id, self._database.dialect)
        self.sessions: Final = SqlSessionStore(self._database, chain.append)
        self.log: Final = SqlRevocationLog(self._database, chain.append)
        self.keys: Final = SqlKeyStore(self._database, chain.append)
        self.clients: Final = SqlClientStore(self._database, chain.append)
        self.audit: Final = SqlAuditStore(self._database, chain)
        self.leases: Final = SqlLeaseStore(self._database)
        self.used_ids: Final = SqlUsedIds(self._database)
        self.device_requests: Final = SqlDeviceRequests(self._database)
        self.nodes: Final = SqlNodeStore(self._database)
        self.samples: Final = SqlSampleStore(self._database)
        self.logouts: Final = SqlLogoutStore(self._database)

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
