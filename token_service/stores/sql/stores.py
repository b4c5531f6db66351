"""All stores of one SQL database."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import AuditKeys
from token_service.stores.sql import migrations
from token_service.stores.sql.audit import SqlAuditStore
from token_service.stores.sql.audit_chain import AuditChain
from token_service.stores.sql.clients import SqlClientStore
from token_service.stores.sql.device_requests import SqlDeviceRequests
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.pool import Pool
from token_service.stores.sql.engine.turns import Turns
from token_service.stores.sql.event_streams import SqlEventStreamStore
from token_service.stores.sql.events import SqlEventLog
from token_service.stores.sql.keys import SqlKeyStore
from token_service.stores.sql.leases import SqlLeaseStore
from token_service.stores.sql.logouts import SqlLogoutStore
from token_service.stores.sql.nodes import SqlNodeStore
from token_service.stores.sql.personal_changes import PersonalDataChanges
from token_service.stores.sql.personal_data import LoadWrap, PersonalData
from token_service.stores.sql.personal_sweeps import PersonalDataSweeps
from token_service.stores.sql.policies import SqlPolicyStore
from token_service.stores.sql.revocation_entries import SqlRevocationEntries
from token_service.stores.sql.revocation_log import SqlRevocationLog
from token_service.stores.sql.samples import SqlSampleStore
from token_service.stores.sql.session_selections import SqlSessionSelections
from token_service.stores.sql.session_walk import SqlSessionWalk
from token_service.stores.sql.sessions import SqlSessionStore
from token_service.stores.sql.stalled import StalledTransactions
from token_service.stores.sql.subjects import SqlSubjectStore
from token_service.stores.sql.used_ids import SqlUsedIds
from token_service.stores.sql.webhooks import SqlWebhookStore

_LOCK_WAITS: Final = sa.text(
    """SELECT count(DISTINCT pid), coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND usename = current_user AND datname = current_database()"""
)


async def _read_lock_waits(connection: AsyncConnection) -> tuple[int, float]:
    count, age = (await connection.execute(_LOCK_WAITS)).one()
    return count, age


class SqlStores:
    """The stores that `core` needs, on PostgreSQL or SQLite.

    async with SqlStores("postgresql://…") as stores:
        await stores.require_current()
        head = await stores.log.head()

    The constructor and `__aenter__` do no I/O. `__aexit__` finishes the queued calls and closes every connection.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        audit_keys: AuditKeys | None = None,
        node_id: str = "",
        load_wrap: LoadWrap | None = None,
    ) -> None:
        """Create the stores with at most `pool_size` connections to PostgreSQL, but at least 3.

        `node_id` must be unique to the process: it names the chain of its audit events. Without `audit_keys` no change
        with an audit event succeeds. `load_wrap` loads the key-encryption keys if personal data is encrypted; without it
        no encrypted row can be read.

        Raises `ConfigurationError` for an unreadable URL.
        """
        self._database: Final = Database(url, pool_size=pool_size)
        self.personal_data: Final = PersonalData(self._database, load_wrap)
        personal = self.personal_data
        chain = AuditChain(audit_keys, node_id, self._database.dialect, personal)
        self.sessions: Final = SqlSessionStore(self._database, chain.append, personal)
        self.log: Final = SqlRevocationLog(self._database, chain.append, personal)
        long_reads = Turns()
        self.selections: Final = SqlSessionSelections(self._database, long_reads, personal)
        self.entries: Final = SqlRevocationEntries(self._database, long_reads, personal)
        self.keys: Final = SqlKeyStore(self._database, chain.append)
        self.clients: Final = SqlClientStore(self._database, chain.append)
        self.policies: Final = SqlPolicyStore(self._database, chain.append)
        self.audit: Final = SqlAuditStore(self._database, chain, personal)
        self.personal_data_changes: Final = PersonalDataChanges(self._database, personal, chain.append)
        self.personal_data_sweeps: Final = PersonalDataSweeps(self._database, personal)
        self.events: Final = SqlEventLog(self._database, personal)
        self.event_streams: Final = SqlEventStreamStore(self._database, chain.append)
        self.webhooks: Final = SqlWebhookStore(self._database, chain.append)
        self.leases: Final = SqlLeaseStore(self._database)
        self.used_ids: Final = SqlUsedIds(self._database, chain.append)
        self.device_requests: Final = SqlDeviceRequests(self._database, personal)
        self.nodes: Final = SqlNodeStore(self._database)
        self.samples: Final = SqlSampleStore(self._database)
        self.logouts: Final = SqlLogoutStore(self._database, personal)
        self.walk: Final = SqlSessionWalk(self._database)
        self.subjects: Final = SqlSubjectStore(self._database, chain.append, long_reads, personal)
        self.stalled: Final = StalledTransactions(self._database)

    @property
    def trouble(self) -> str | None:
        """The reason why no write can succeed, or None if no such reason is known. `watch` detects its end."""
        return self._database.space.trouble

    @property
    def pool(self) -> Pool:
        """The connections for rare statements."""
        return self._database.pool

    @property
    def queued(self) -> tuple[int, int]:
        """The numbers of calls that wait for a batch of reads, and for a batch of writes."""
        return self._database.queued

    @property
    def has_lock_waits(self) -> bool:
        """Whether the database tells which connections wait for a lock: PostgreSQL."""
        return self._database.url.path is None

    async def lock_waits(self) -> tuple[int, float]:
        """Return the number of this user's connections that wait for a lock, and the seconds of the longest wait.

        Only with `has_lock_waits`. Raises `StoreUnavailableError`.
        """
        return await self._database.read(_read_lock_waits)

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

    async def migrate(self, progress: Callable[[int, int], None] = lambda _done, _all: None) -> str:
        """Migrate the schema, and return its revision. Several nodes may call this method at once.

        `progress` is called with the number of migrations done and of all missing ones.

        Raises `ConfigurationError` if the schema is from a newer version of the token service, and
        `StoreUnavailableError`.
        """
        await migrations.migrate(self._database.url, progress)
        return migrations.HEAD

    async def require_current(self) -> None:
        """Raise `ConfigurationError` unless the schema has the revision of this version.

        Also raises `StoreUnavailableError`.
        """
        await migrations.require_current(self._database.url)
