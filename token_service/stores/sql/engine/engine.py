"""SQLAlchemy's engine for a database URL, with the settings the contracts rely on."""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.interfaces import AdaptedConnection, DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from token_service.stores.sql.engine.errors import Failure, classify, name_of
from token_service.stores.sql.engine.sqlite_file import SqliteFile
from token_service.urls import DatabaseUrl

WRITES: Final = "token_service_writes"
"""Execution option of a connection whose next transaction writes."""

_FILES: Final = "token_service_files"
"""Under which name a connection's `info` has what `SqliteFile.opened` returned."""

KEPT: Final = 2
"""Connections the pool keeps when they are not in use."""
_PATIENCE_OF_SQLITE: Final = 0.02
"""Seconds SQLite itself waits for a lock. Its tries get rarer the longer it waits; beginning anew keeps them
frequent.
"""
POOL_TIMEOUT: Final = 5.0
"""Seconds to wait for a connection of the pool."""


def driver_errors(url: DatabaseUrl) -> tuple[type[Exception], ...]:
    """Whatever an engine of `create_engine` raises for reasons of the database.

    `errors.translate` takes it from there.
    """
    if url.path is not None:
        # The last two are for values it can't bind.
        return (SQLAlchemyError, sqlite3.Error, OSError, TimeoutError, UnicodeEncodeError, OverflowError)
    from token_service.stores.sql.engine.postgresql import ERRORS

    return (SQLAlchemyError, *ERRORS)  # raw ones when it can't connect


def create_engine(
    url: DatabaseUrl,
    pool_size: int,
    *,
    statement_timeout: float | None = None,
    file: SqliteFile | None = None,
) -> AsyncEngine:
    """An engine with at most `pool_size` connections; connects when first used.

    `statement_timeout` (seconds) is another one than usual; on SQLite it is how long a transaction that
    writes waits for another one. `file`: the file of an SQLite database, if others have it open, too; see
    `require_in_place`.
    """
    kept = min(KEPT, pool_size)
    pool: dict[str, Any] = {
        "pool_size": kept,
        "max_overflow": pool_size - kept,
        "pool_timeout": POOL_TIMEOUT,
    }
    engine = (
        _postgresql(url, pool, statement_timeout)
        if url.path is None
        else _sqlite(file or SqliteFile(url.path), pool, statement_timeout)
    )
    engine.sync_engine.pool.logger.addFilter(_in_one_line)  # type: ignore[union-attr]
    return engine


def _postgresql(url: DatabaseUrl, pool: dict[str, Any], statement_timeout: float | None) -> AsyncEngine:
    from token_service.stores.sql.engine import postgresql

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: postgresql.connect(url, statement_timeout=statement_timeout),
        hide_parameters=True,
        **pool,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def verify(connection: AdaptedConnection, record: object, proxy: object) -> None:
        # Costs a round trip for each transaction, all of them rare ones, and spares them an error after every
        # restart of the server, and reads of a server that has been replaced.
        try:
            connection.run_async(postgresql.require_writable)
        except postgresql.ERRORS as error:
            raise InvalidatePoolError from error

    return engine


def _in_one_line(record: logging.LogRecord) -> bool:
    """Shorten what the pool logs of a broken connection that it failed to give up: no one can do anything
    about it.
    """
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
        file.before_open()  # it may be open, but nothing was done with it
        cursor = connection.cursor()
        patience = f"PRAGMA busy_timeout={_PATIENCE_OF_SQLITE * 1000:.0f}"
        for pragma in (*sqlite.PRAGMAS, patience, sqlite.FIRST_READ):
            cursor.execute(pragma)
        cursor.close()
        record.info[_FILES] = file.opened()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # The driver would begin late and deferred, and a transaction that reads first could then not write
        # any more.
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
