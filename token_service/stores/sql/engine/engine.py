"""SQLAlchemy's engine for a database URL, with the settings that the contracts of the stores rely on."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import AdaptedConnection, DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from token_service.stores.sql.engine.errors import Failure, classify, name_of
from token_service.stores.sql.engine.sqlite_file import SqliteFile
from token_service.urls import DatabaseUrl

if TYPE_CHECKING:
    from token_service.stores.sql.engine.servers import Servers

WRITES: Final = "token_service_writes"
"""Execution option of a connection whose next transaction writes."""

_FILES: Final = "token_service_files"
"""The key of the result of `SqliteFile.opened` in the `info` of a connection."""

KEPT: Final = 2
"""Idle connections that the pool keeps."""
_PATIENCE_OF_SQLITE: Final = 0.02
"""Seconds SQLite itself waits for a lock. Its attempts become rarer with time; a new wait keeps them frequent."""
POOL_TIMEOUT: Final = 5.0
"""Seconds to wait for a connection of the pool."""


def driver_errors(url: DatabaseUrl) -> tuple[type[Exception], ...]:
    """Return the errors that an engine of `create_engine` raises because of the database.

    `errors.translate` translates them.
    """
    if url.path is not None:
        # The last two come from values that the driver can't bind.
        return (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError, UnicodeEncodeError, OverflowError)
    from token_service.stores.sql.engine.servers import ERRORS

    return (SQLAlchemyError, *ERRORS)  # a failed connection raises the errors of the driver


def create_engine(
    url: DatabaseUrl,
    pool_size: int,
    *,
    statement_timeout: float | None = None,
    file: SqliteFile | None = None,
    servers: Servers | None = None,
) -> AsyncEngine:
    """Create an engine with at most `pool_size` connections. It connects on first use.

    `statement_timeout` (seconds) replaces the default; on SQLite it limits the wait for another writer. `file` is the
    file of an SQLite database that is also open elsewhere in this process, for `require_in_place`. `servers` are those of
    a PostgreSQL database that is also open elsewhere in this process.
    """
    kept = min(KEPT, pool_size)
    pool: dict[str, Any] = {
        "pool_size": kept,
        "max_overflow": pool_size - kept,
        "pool_timeout": POOL_TIMEOUT,
    }
    engine = (
        _postgresql(url, servers, pool, statement_timeout)
        if url.path is None
        else _sqlite(file or SqliteFile(url.path), pool, statement_timeout)
    )
    engine.sync_engine.pool.logger.addFilter(_in_one_line)  # type: ignore[union-attr]
    return engine


def _postgresql(
    url: DatabaseUrl, servers: Servers | None, pool: dict[str, Any], statement_timeout: float | None
) -> AsyncEngine:
    from token_service.stores.sql.engine.servers import ERRORS, Servers, require_writable

    servers = servers or Servers(url)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: servers.connect(statement_timeout=statement_timeout),
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def verify(connection: AdaptedConnection, record: object, proxy: object) -> None:
        # The check costs a round trip per transaction, which is acceptable because these transactions are rare. It
        # prevents an error after each restart of the server, and reads from a server that was replaced.
        try:
            connection.run_async(require_writable)
        except ERRORS as error:
            raise InvalidatePoolError from error

    return engine


def _in_one_line(record: logging.LogRecord) -> bool:
    """Shorten the line of the pool about a broken connection that it could not close: it needs no action."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {name_of(record.exc_info[1])}", ()
        record.exc_info = None
    return True


def require_in_place(file: SqliteFile, connection: AsyncConnection) -> None:
    """Raise `FileReplacedError` unless a connection of `create_engine` still uses the files at their paths."""
    file.require_in_place(connection.info[_FILES])


def _sqlite(file: SqliteFile, pool: dict[str, Any], patience: float | None) -> AsyncEngine:
    from token_service.stores.sql.engine import sqlite

    engine = create_async_engine(
        sa.URL.create(
            "sqlite+aiosqlite", database=file.uri.partition("?")[0], query={"mode": "rw", "uri": "true"}
        ),
        connect_args={"timeout": sqlite.BUSY_TIMEOUT, "isolation_level": None},
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        file.before_open()  # the connection is open but has not read yet
        cursor = connection.cursor()
        patience = f"PRAGMA busy_timeout={_PATIENCE_OF_SQLITE * 1000:.0f}"
        for pragma in (*sqlite.PRAGMAS, patience, sqlite.FIRST_READ):
            cursor.execute(pragma)
        cursor.close()
        record.info[_FILES] = file.opened()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # The driver would begin late and deferred, and a transaction that has read could then fail to write.
        if connection.get_execution_options().get(WRITES, False):
            _begin_to_write(connection, sqlite.BUSY_TIMEOUT if patience is None else patience)
        else:
            connection.exec_driver_sql("BEGIN")

    return engine


def _begin_to_write(connection: sa.Connection, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except sa.exc.OperationalError as error:
            if classify(error) is not Failure.TRANSIENT or time.monotonic() > deadline:
                raise
        else:
            return
