from __future__ import annotations

import sqlite3

import asyncpg
import pytest
import sqlalchemy as sa

from token_service.errors import StoreUnavailableError
from token_service.stores.sql.engine.errors import Failure, StatementRefusedError, classify, translate


def sqlite_error(code):
    error = sqlite3.OperationalError("text")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (asyncpg.DeadlockDetectedError("x"), Failure.TRANSIENT),
        (asyncpg.SerializationError("x"), Failure.TRANSIENT),
        (asyncpg.ConnectionDoesNotExistError("x"), Failure.UNAVAILABLE),
        (asyncpg.AdminShutdownError("x"), Failure.UNAVAILABLE),
        (asyncpg.CannotConnectNowError("x"), Failure.UNAVAILABLE),
        (asyncpg.QueryCanceledError("x"), Failure.UNAVAILABLE),
        (asyncpg.TooManyConnectionsError("x"), Failure.UNAVAILABLE),
        (asyncpg.DiskFullError("x"), Failure.UNAVAILABLE),
        (asyncpg.ReadOnlySQLTransactionError("x"), Failure.UNSENT),
        (asyncpg.IdleInTransactionSessionTimeoutError("x"), Failure.UNAVAILABLE),
        (asyncpg.InvalidPasswordError("x"), Failure.UNAVAILABLE),
        (asyncpg.InterfaceError("connection is closed"), Failure.UNAVAILABLE),
        (asyncpg.InternalClientError("cannot switch to state 11; …"), Failure.UNSENT),
        (asyncpg.InternalClientError("unexpected"), Failure.UNAVAILABLE),
        (asyncpg.UniqueViolationError("x"), Failure.REFUSED),
        (asyncpg.CharacterNotInRepertoireError("x"), Failure.REFUSED),
        (asyncpg.UndefinedTableError("x"), Failure.REFUSED),
        (asyncpg.DataError("x"), Failure.REFUSED),
        (sqlite_error(sqlite3.SQLITE_BUSY), Failure.TRANSIENT),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), Failure.TRANSIENT),
        (sqlite_error(sqlite3.SQLITE_FULL), Failure.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), Failure.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_READONLY), Failure.UNAVAILABLE),
        (sqlite_error(sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY), Failure.REFUSED),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), Failure.UNAVAILABLE),
        (sqlite3.InterfaceError("Error binding parameter"), Failure.REFUSED),
        (ConnectionRefusedError(), Failure.UNAVAILABLE),
        (TimeoutError(), Failure.UNAVAILABLE),
        (sa.exc.TimeoutError("the pool is exhausted"), Failure.UNAVAILABLE),
        (OverflowError(), Failure.REFUSED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.value,
)
def test_driver_errors_are_classified(error, failure):
    assert classify(error) is failure
    wrapped = sa.exc.DBAPIError("SELECT", {}, error)
    assert classify(wrapped) is failure


def test_unavailable_database_error_has_retry_after():
    error = translate(asyncpg.AdminShutdownError("x"))
    assert isinstance(error, StoreUnavailableError)
    assert error.retry_after


def test_refused_statement_error_shows_no_value():
    error = translate(asyncpg.UniqueViolationError("Key (subject)=(alice) already exists."))
    assert isinstance(error, StatementRefusedError)
    assert str(error) == "the database refused a statement: UniqueViolationError (23505)"
