"""Connections to PostgreSQL: choosing the primary among the servers of a URL, and setting the session up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from token_service.errors import ConfigurationError
from token_service.stores.sql.engine.errors import UnusableServerError, is_login_refused
from token_service.stores.sql.expressions import IDENTITY_SETTING
from token_service.urls import DatabaseUrl

CONNECT_TIMEOUT: Final = 5.0
STATEMENT_TIMEOUT: Final = 5.0
"""Seconds for one statement, or one batch of a lane."""

SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "token-service",
    # The contracts of the stores assume this level. A database may have another default.
    "default_transaction_isolation": "read committed",
}
NOT_WRITABLE: Final = "the server is a standby or read-only"
_WRITABLE: Final = "current_setting('transaction_read_only') = 'off'"
"""`transaction_read_only` is also on in recovery."""
_IDENTITY: Final = f"""SELECT set_config('{IDENTITY_SETTING}',
    (pg_control_system()).system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8), false)"""
"""The cluster and its timeline, as hexadecimal digits.

Neither changes while a connection lives: a server that has left recovery returns to recovery or changes its timeline
only by a restart.
"""
_UNKNOWN_FUNCTION: Final = frozenset(("0A000", "42501", "42883"))
"""Not supported, not permitted, not defined: errors of other servers that speak the protocol of PostgreSQL."""

ERRORS: Final = (
    UnusableServerError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""The errors that the driver or `connect` raises."""

_DOUBT: Final = frozenset(("01000", "57P01"))
"""Codes of the warning that a commit did not wait for the synchronous standby: cancelled, or shut down.

The server reports such a commit as done, although a failover might lose it.
"""
NOT_REPLICATED: Final = "a commit may be missing on the synchronous standby"
SUPERSEDED: Final = "the server is a former primary: another one was promoted"

Connection = Any
"""`asyncpg.Connection`; the driver has no types."""


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection that records the warning of the server about a commit that may be missing on the standby."""

    __slots__ = ("in_doubt", "is_superseded")

    def note(self, _: Connection, message: Any) -> None:
        """Record a notice of the server. The driver calls this method before it returns the result."""
        if message.severity_en == "WARNING" and message.sqlstate in _DOUBT:
            self.in_doubt = True


def require_replicated(connection: Connection) -> None:
    """Raise `UnusableServerError` if a commit on this connection may be missing on the standby or on a newer primary.

    Such a commit is not acknowledged: its outcome is unknown, as after a lost response.
    """
    if connection.in_doubt:
        raise UnusableServerError(NOT_REPLICATED)
    if connection.is_superseded():
        raise UnusableServerError(SUPERSEDED)


class Servers:
    """The servers of a database URL, of which one is the primary.

    Invariant: after a connection to a timeline of a cluster, no result of an earlier timeline counts. A former primary
    that does not know of the promotion may still accept writes.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self.url: Final = url
        self._timelines: Final[dict[str, int]] = {}
        """The newest timeline seen of each cluster."""

    async def connect(
        self, settings: Mapping[str, str] = SETTINGS, *, statement_timeout: float | None = None
    ) -> Connection:
        """Connect to a server that can write and whose commits are durable.

        Asks all servers at once, because one that is stopped or unreachable does not refuse a connection.
        `statement_timeout` (seconds) replaces `STATEMENT_TIMEOUT`. Raises `ERRORS`, and `ConfigurationError` for an
        unreadable URL.
        """
        timeout = STATEMENT_TIMEOUT if statement_timeout is None else statement_timeout
        attempts = [asyncio.ensure_future(self._connect(dsn, settings, timeout)) for dsn in self.url.servers]
        failures: list[Exception] = []
        chosen: Connection | None = None
        try:
            for attempt in asyncio.as_completed(attempts):
                try:
                    chosen = await attempt
                    break
                except (*ERRORS, ConfigurationError) as error:
                    failures.append(error)
        finally:
            await _abandon(attempts, chosen)
        if chosen is None:
            raise max(failures, key=_importance)
        return chosen

    async def _connect(self, dsn: str, settings: Mapping[str, str], timeout: float) -> Connection:
        try:
            connection = await asyncpg.connect(
                dsn, timeout=CONNECT_TIMEOUT, command_timeout=timeout, connection_class=_Connection
            )
        except (asyncpg.ClientConfigurationError, ValueError):
            # `from None`, because the message of the cause may quote the URL.
            raise ConfigurationError(f"the database URL {self.url} is not understood") from None
        connection.in_doubt = False
        connection.add_log_listener(connection.note)
        try:
            identity = await _prepare(
                connection,
                {
                    **settings,
                    # The server stops at the same time, so that no statement runs after its caller has given up.
                    "statement_timeout": f"{timeout * 1000:.0f}",
                    "idle_in_transaction_session_timeout": f"{timeout * 2000:.0f}",
                },
            )
            connection.is_superseded = self._meet(identity)
            require_replicated(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _meet(self, identity: str | None) -> Callable[[], bool]:
        """Note the timeline of a server, and return a function that tells whether a newer one is known."""
        if identity is None:
            return lambda: False
        cluster, _, digits = identity.partition("/")
        timeline, timelines = int(digits, 16), self._timelines
        timelines[cluster] = max(timeline, timelines.get(cluster, timeline))
        return lambda: timelines[cluster] > timeline


def _importance(failure: Exception) -> tuple[bool, bool]:
    """Prefer what an operator must correct, and then what a server said, to a server that is down."""
    return is_login_refused(failure), isinstance(failure, UnusableServerError)


async def _abandon(attempts: Sequence[asyncio.Future[Connection]], chosen: Connection | None) -> None:
    """End every attempt, and every connection except the chosen one."""
    for attempt in attempts:
        attempt.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, _Connection) and result is not chosen:
            result.terminate()


async def require_writable(connection: Connection) -> None:
    """Raise `UnusableServerError` if the server is now a standby, read-only or a former primary.

    Raises `ERRORS` if it is unreachable.
    """
    require_replicated(connection)
    if not await connection.fetchval(f"SELECT {_WRITABLE}"):
        raise UnusableServerError(NOT_WRITABLE)


async def _prepare(connection: Connection, settings: Mapping[str, str]) -> str | None:
    """Set the session up, and return the identity of the server if it tells it."""
    # Set by a statement, because poolers refuse most settings in the startup message.
    changes = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    # An acknowledged write must survive a crash, even if the database default is 'off'. Stronger settings stay.
    durable = "set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)"
    row = await connection.fetchrow(f"SELECT {_WRITABLE}, {durable}, {changes}")
    if not row[0]:
        raise UnusableServerError(NOT_WRITABLE)
    try:
        identity: str = await connection.fetchval(_IDENTITY)
    except asyncpg.PostgresError as error:
        if error.sqlstate not in _UNKNOWN_FUNCTION:
            raise
        return None
    return identity
