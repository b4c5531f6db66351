"""The lane of PostgreSQL that pipelines a batch into one transaction, and the checks at the start.

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
from token_service.stores.sql.engine.servers import (
    ERRORS,
    NOT_WRITABLE,
    SETTINGS,
    STATEMENT_TIMEOUT,
    Connection,
    Servers,
    require_replicated,
)
from token_service.urls import DatabaseUrl

_ENCODING: Final = "UTF8"
_POOLER_LOOKS: Final = 25
"""Looks at the backends of two connections. Beside busy clients each look alone may miss a wrong pooler; with 5 looks
one of some hundred starts missed it.
"""
ATTEMPTS: Final = 5
"""Attempts of a transaction that the server rolls back because of a conflict."""

_LANE_SETTINGS: Final[Mapping[str, str]] = {
    **SETTINGS,
    # Every statement of a lane uses an index. A generic plan made while a table was small must not be a sequential
    # scan after the table has grown. A new plan for each execution would cost as much as the execution.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

T = TypeVar("T")


async def require_suitable(url: DatabaseUrl) -> None:
    """Raise `ConfigurationError` if the database is permanently unsuitable: its encoding or its pooler.

    Raises `ERRORS` if the checks fail.
    """
    servers = Servers(url)
    try:
        connection = await servers.connect()
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
            if pooled and not await _keeps_backends(servers, connection):
                raise _wrong_pooling(url)
        finally:
            connection.terminate()
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        # The statement was prepared on one server connection and used on another one.
        raise _wrong_pooling(url) from None


async def _keeps_backends(servers: Servers, one: Connection) -> bool:
    """Return whether a pooler gives each connection its own backend.

    Any other pooler lets the idle backend of the first connection serve the second one, unless a third connection
    takes that backend first.
    """
    other = await servers.connect()
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


class PostgresLane:
    """A lane with one connection. The calls of a batch with the same statement are pipelined in one transaction.

    The transaction is READ COMMITTED, so each call has its own snapshot, taken after the previous call was executed.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers: Final = servers
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
            self._connection = connection = await self._servers.connect(_LANE_SETTINGS)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError, asyncpg.InterfaceError):
                connection.terminate()
