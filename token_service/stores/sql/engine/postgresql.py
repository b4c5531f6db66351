"""PostgreSQL: connections, and the lane that pipelines a batch into one transaction.

Connections have settings and prepared statements, so a pooler must give each connection its own server connection
(session mode). `require_suitable` refuses any other pooler at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from token_service.errors import ConfigurationError
from token_service.stores.sql.engine.errors import (
    Failure,
    UnusableServerError,
    classify,
    translate,
    unavailable,
)
from token_service.stores.sql.engine.lane import ITEM, Call, Contact, Outcome, Row, Statement, each_its_own
from token_service.stores.sql.expressions import IDENTITY_SETTING
from token_service.urls import DatabaseUrl

CONNECT_TIMEOUT: Final = 5.0
STATEMENT_TIMEOUT: Final = 5.0
"""Seconds for one statement, or one batch of a lane."""
_ENCODING: Final = "UTF8"
_POOLER_LOOKS: Final = 25
"""Looks at the backends of two connections. Beside busy clients each look alone may miss a wrong pooler; with 5 looks
one of some hundred starts missed it.
"""
ATTEMPTS: Final = 5
"""Attempts of a transaction that the server rolls back because of a conflict."""

_SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "token-service",
    # The contracts of the stores assume this level. A database may have another default.
    "default_transaction_isolation": "read committed",
}
_LANE_SETTINGS: Final[Mapping[str, str]] = {
    **_SETTINGS,
    # Every statement of a lane uses an index. A generic plan made while a table was small must not be a sequential
    # scan after the table has grown. A new plan for each execution would cost as much as the execution.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
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

Connection = Any
"""`asyncpg.Connection`; the driver has no types."""

T = TypeVar("T")


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection that records the warning of the server about a commit that may be missing on the standby."""

    __slots__ = ("in_doubt",)

    def note(self, _: Connection, message: Any) -> None:
        """Record a notice of the server. The driver calls this method before it returns the result."""
        if message.severity_en == "WARNING" and message.sqlstate in _DOUBT:
            self.in_doubt = True


def require_replicated(connection: Connection) -> None:
    """Raise `UnusableServerError` if a commit on this connection may be missing on the standby.

    Such a commit is not acknowledged: its outcome is unknown, as after a lost response.
    """
    if connection.in_doubt:
        raise UnusableServerError(NOT_REPLICATED)


async def connect(
    url: DatabaseUrl, settings: Mapping[str, str] = _SETTINGS, *, statement_timeout: float | None = None
) -> Connection:
    """Connect to a server that can write and whose commits are durable.

    `statement_timeout` (seconds) replaces `STATEMENT_TIMEOUT`. Raises `ERRORS`, and `ConfigurationError` for an
    unreadable URL.
    """
    timeout = STATEMENT_TIMEOUT if statement_timeout is None else statement_timeout
    options = (
        {"target_session_attrs": "read-write"} if "," in url.dsn else {}
    )  # several servers to choose from
    try:
        connection = await asyncpg.connect(
            url.dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=timeout,
            connection_class=_Connection,
            **options,
        )
    except (asyncpg.ClientConfigurationError, ValueError):
        # `from None`, because the message of the cause may quote the URL.
        raise ConfigurationError(f"the database URL {url} is not understood") from None
    connection.in_doubt = False
    connection.add_log_listener(connection.note)
    try:
        await _prepare(
            connection,
            {
                **settings,
                # The server stops at the same time, so that no statement runs after its caller has given up.
                "statement_timeout": f"{timeout * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{timeout * 2000:.0f}",
            },
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


async def require_suitable(url: DatabaseUrl) -> None:
    """Raise `ConfigurationError` if the database is permanently unsuitable: its encoding or its pooler.

    Raises `ERRORS` if the checks fail.
    """
    try:
        connection = await connect(url)
        try:
            encoding, backend = await connection.fetchrow(
                "SELECT current_setting('server_encoding'), pg_backend_pid()"
            )
            if encoding != _ENCODING:
                raise ConfigurationError(
                    f"the database {url} has the encoding {encoding}, the service needs {_ENCODING}: make another one with "
                    f"CREATE DATABASE ... ENCODING '{_ENCODING}' TEMPLATE template0"
                )
            pooled = backend != connection.get_server_pid()
            if pooled and not await _keeps_backends(url, connection):
                raise _wrong_pooling(url)
        finally:
            connection.terminate()
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        # The statement was prepared on one server connection and used on another one.
        raise _wrong_pooling(url) from None


async def _keeps_backends(url: DatabaseUrl, one: Connection) -> bool:
    """Return whether a pooler gives each connection its own backend.

    Any other pooler lets the idle backend of the first connection serve the second one, unless a third connection
    takes that backend first.
    """
    other = await connect(url)
    try:
        seen: list[set[int]] = [set(), set()]
        for _ in range(_POOLER_LOOKS):
            for backends, connection in zip(seen, (one, other), strict=True):
                backends.add(await connection.fetchval("SELECT pg_backend_pid()"))
    finally:
        other.terminate()
    return len(seen[0]) == len(seen[1]) == 1 and seen[0] != seen[1]


def _wrong_pooling(url: DatabaseUrl) -> ConfigurationError:
    return ConfigurationError(
        f"the database {url} is behind a pooler that changes server connections between transactions; "
        "set it to session mode (PgBouncer: pool_mode = session), or name the server itself"
    )


async def require_writable(connection: Connection) -> None:
    """Raise `UnusableServerError` if the server is now a standby or read-only, and `ERRORS` if it is unreachable."""
    if not await connection.fetchval(f"SELECT {_WRITABLE}"):
        raise UnusableServerError(NOT_WRITABLE)


async def _prepare(connection: Connection, settings: Mapping[str, str]) -> None:
    # Set by a statement, because poolers refuse most settings in the startup message.
    changes = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    # An acknowledged write must survive a crash, even if the database default is 'off'. Stronger settings stay.
    durable = "set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), false)"
    row = await connection.fetchrow(f"SELECT {_WRITABLE}, {durable}, {changes}")
    if not row[0]:
        raise UnusableServerError(NOT_WRITABLE)
    try:
        await connection.execute(_IDENTITY)
    except asyncpg.PostgresError as error:
        if error.sqlstate not in _UNKNOWN_FUNCTION:
            raise


class PostgresLane:
    """A lane with one connection. The calls of a batch with the same statement are pipelined in one transaction.

    The transaction is READ COMMITTED, so each call has its own snapshot, taken after the previous call was executed.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self._url: Final = url
        self._connection: Connection | None = None
        self._contact: Final = Contact()

    async def run(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """See `Lane.run`."""
        outcomes: list[Outcome] = [None] * len(calls)
        groups: dict[Statement, list[int]] = {}
        for index, call in enumerate(calls):
            groups.setdefault(call.statement, []).append(index)
        away = False
        for statement, indexes in groups.items():
            if away:
                results: Sequence[Outcome] = [unavailable() for _ in indexes]
            elif statement.has_parameters:
                indexes.sort(key=lambda index: calls[index].order)
                results = await self._each(statement, [calls[index].parameters for index in indexes])
            else:
                results = each_its_own(await self._shared(statement), len(indexes))
            for index, result in zip(indexes, results, strict=True):
                outcomes[index] = result
            away = self._connection is None
        return outcomes

    async def aclose(self) -> None:
        """Close the connection, gracefully if it answers."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close(timeout=1)
            except ERRORS:
                connection.terminate()

    async def _shared(self, statement: Statement) -> Outcome:
        async def fetch(connection: Connection) -> Row | None:
            row: Row | None = await connection.fetchrow(statement.sql)
            if row is not None and statement.evidence is not None and not row[statement.evidence]:
                raise UnusableServerError(NOT_WRITABLE)
            return row

        return await self._try(fetch)

    async def _each(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> Sequence[Outcome]:
        names = statement.names

        async def fetch(connection: Connection) -> list[Outcome]:
            results: list[Outcome] = [None] * len(parameters)
            arguments = [
                [item if name == ITEM else values[name] for name in names]
                for item, values in enumerate(parameters)
            ]
            for row in await connection.fetchmany(statement.sql, arguments, timeout=STATEMENT_TIMEOUT):
                results[row[-1]] = row
            return results

        result = await self._try(fetch)
        if not isinstance(result, Exception):
            return result
        if self._connection is None or len(parameters) == 1:
            return each_its_own(result, len(parameters))
        # One refused call rolled back the whole transaction: run each call alone to find it.
        results: list[Outcome] = []
        for values in parameters:
            if results and self._connection is None:
                results.append(unavailable())
            else:
                results.extend(await self._each(statement, [values]))
        return results

    async def _try(self, work: Callable[[Connection], Awaitable[T]]) -> T | Exception:
        """Do `work` in one transaction, and return its result or an error.

        Sets `_connection` to None if the connection is no longer usable.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                connection = await self._connected()
                result = await work(connection)
                require_replicated(connection)
            except asyncio.CancelledError:
                self._drop()
                raise
            except ERRORS as error:
                failure = classify(error)
                if failure is Failure.UNSENT:
                    self._drop()
                if failure in (Failure.TRANSIENT, Failure.UNSENT) and attempt < ATTEMPTS:
                    continue
                if failure is not Failure.REFUSED:
                    self._contact.lost(error)
                    self._drop()
                translated = translate(error)
                translated.__cause__ = error
                return translated
            else:
                self._contact.found()
                return result
        raise AssertionError("unreachable")

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is None or connection.is_closed():
            self._connection = connection = await connect(self._url, _LANE_SETTINGS)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, asyncpg.InterfaceError):
                connection.terminate()
