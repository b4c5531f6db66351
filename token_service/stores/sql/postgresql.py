"""PostgreSQL: how to connect, and the lane that pipelines a batch into one transaction.

Connections carry settings and prepared statements, so a pooler in between has to give each one a server
connection of its own (session mode).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import asyncpg

from token_service.errors import ConfigurationError
from token_service.stores.sql.errors import Failure, classify, translate, unavailable
from token_service.stores.sql.lane import ITEM, Call, Contact, Outcome, Row, Statement, each_its_own
from token_service.stores.sql.url import DatabaseUrl

CONNECT_TIMEOUT: Final = 5.0
STATEMENT_TIMEOUT: Final = 5.0
"""Seconds for one statement, or one batch of a lane."""
ATTEMPTS: Final = 5
"""How often a transaction is tried that the server rolled back for the sake of another one."""

_SETTINGS: Final[Mapping[str, str]] = {
    "application_name": "token-service",
    # The contracts are argued for this level; a database may have another default.
    "default_transaction_isolation": "read committed",
}
_LANE_SETTINGS: Final[Mapping[str, str]] = {
    **_SETTINGS,
    # Every statement of a lane goes by an index, whatever it touches. A generic plan made while a table was
    # small must not turn out to be a sequential scan when it has grown; and planning anew each time would
    # cost as much as executing.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}

ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""Whatever the driver raises."""

Connection = Any
"""`asyncpg.Connection`; the driver has no types."""

T = TypeVar("T")


async def connect(
    url: DatabaseUrl, settings: Mapping[str, str] = _SETTINGS, *, statement_timeout: float | None = None
) -> Connection:
    """A new connection whose commits are durable.

    `statement_timeout` (seconds) is another one than `STATEMENT_TIMEOUT`. Raises `ERRORS`, and
    `ConfigurationError` for a URL it can't read.
    """
    timeout = STATEMENT_TIMEOUT if statement_timeout is None else statement_timeout
    try:
        connection = await asyncpg.connect(
            url.dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=timeout,
            server_settings={
                **settings,
                # The server gives up at the same time, so that nothing goes on for nobody.
                "statement_timeout": f"{timeout * 1000:.0f}",
                "idle_in_transaction_session_timeout": f"{timeout * 2000:.0f}",
            },
        )
    except (asyncpg.ClientConfigurationError, ValueError):
        # From nothing: the message of the cause may quote the URL.
        raise ConfigurationError(f"the database URL {url} is not understood") from None
    try:
        # An acknowledged write survives a crash, also where somebody traded that for speed; stronger settings
        # stay.
        await connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


class PostgresLane:
    """One connection. The calls of a batch that share a statement are sent at once and are one transaction.

    That transaction is READ COMMITTED, so each call in it has a snapshot of its own, taken after the one
    before it was executed.
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
        # Something in the batch was refused, and with it the whole transaction: find out what it was.
        results: list[Outcome] = []
        for values in parameters:
            if results and self._connection is None:
                results.append(unavailable())
            else:
                results.extend(await self._each(statement, [values]))
        return results

    async def _try(self, work: Callable[[Connection], Awaitable[T]]) -> T | Exception:
        """Do something in one transaction; an error that leaves no connection to use sets `_connection` to
        None.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                connection = await self._connected()
                result = await work(connection)
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
