"""SQLite: connections, and the lane that runs a batch as one transaction in its own thread.

Any number of processes may use the file (WAL). Writers begin with BEGIN IMMEDIATE, so no other writer can change the
data that the transaction has read. Each commit is on disk before it returns (`synchronous=FULL`).
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from uuid import UUID

from token_service.stores.sql.engine.errors import Failure, classify, translate, unavailable_because
from token_service.stores.sql.engine.lane import ITEM, Call, Contact, Outcome, Statement, each_its_own
from token_service.stores.sql.engine.sqlite_file import SqliteFile

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for writers of other processes."""

FIRST_READ: Final = "PRAGMA schema_version"
"""A read that opens the write-ahead log. The open file is then not deleted by other connections."""

PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA journal_size_limit=67108864",  # shrinks the write-ahead log after a burst of writes
)


def connect(uri: str, busy_timeout: float) -> sqlite3.Connection:
    """Open a connection without implicit transactions, and switch the file to a write-ahead log.

    Blocks, so it needs its own thread. Raises `sqlite3.Error`.
    """
    connection = sqlite3.connect(
        uri,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
        uri=True,
    )
    try:
        _to_wal(connection)
        for pragma in PRAGMAS:
            connection.execute(pragma).close()
        connection.execute(f"PRAGMA busy_timeout={busy_timeout * 1000:.0f}").close()
        connection.execute(FIRST_READ).fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


class SqliteLane:
    """A lane with one connection in one thread. A batch is one transaction, also with different statements."""

    def __init__(self, file: SqliteFile, *, write_lock: asyncio.Lock | None) -> None:
        """Create a lane that writes while it holds `write_lock`.

        Without a lock the lane only reads, each statement in its own snapshot.
        """
        self._file: Final = file
        self._files: Mapping[str, tuple[int, int] | None] = {}
        self._write_lock: Final = write_lock
        self._thread: Final = ThreadPoolExecutor(1, thread_name_prefix="token-service-sqlite")
        self._connection: sqlite3.Connection | None = None
        self._contact: Final = Contact()

    async def run(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """See `Lane.run`."""
        loop = asyncio.get_running_loop()
        if self._write_lock is None:
            return await loop.run_in_executor(self._thread, self._guarded, calls)
        async with self._write_lock:
            running = loop.run_in_executor(self._thread, self._guarded, calls)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])  # the lock must be held while the thread still writes
                raise

    async def aclose(self) -> None:
        """Close the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=True)

    def _guarded(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        try:
            if self._connection is None:
                self._file.before_open()
                self._connection = connect(self._file.uri, 0 if self._write_lock else BUSY_TIMEOUT)
                self._files = self._file.opened()
            work = self._write if self._write_lock else self._read
            outcomes = work(self._connection, calls)
            self._file.require_in_place(self._files)  # checked before a result is trusted or acknowledged
        except (sqlite3.Error, OSError) as error:
            self._contact.lost(error)
            self._drop()
            return each_its_own(unavailable_because(error), len(calls))
        self._contact.found()
        return outcomes

    def _write(self, connection: sqlite3.Connection, calls: Sequence[Call]) -> Sequence[Outcome]:
        _begin(connection)
        try:
            outcomes = [_execute(connection, call.statement, call.parameters) for call in calls]
            connection.execute("COMMIT").close()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK").close()
            raise
        return outcomes

    @staticmethod
    def _read(connection: sqlite3.Connection, calls: Sequence[Call]) -> Sequence[Outcome]:
        shared: dict[Statement, Outcome] = {}
        outcomes: list[Outcome] = []
        for call in calls:
            if call.statement.has_parameters:
                outcomes.append(_execute(connection, call.statement, call.parameters))
            else:
                if call.statement not in shared:
                    shared[call.statement] = _execute(connection, call.statement, {})
                outcomes.append(shared[call.statement])
        return outcomes

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _to_wal(connection: sqlite3.Connection) -> None:
    # If several connections switch a new file at once, SQLite refuses all but one of them without waiting, because
    # they could wait for each other.
    _insist(connection, "PRAGMA journal_mode=WAL")


def _begin(connection: sqlite3.Connection) -> None:
    # SQLite's own busy handler sleeps up to 100 ms between two attempts and starves under steady load from another
    # process. Short sleeps of random length get a fair share.
    _insist(connection, "BEGIN IMMEDIATE")


def _insist(connection: sqlite3.Connection, statement: str) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute(statement).close()
        except sqlite3.OperationalError as error:
            if classify(error) is not Failure.TRANSIENT or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.0002, 0.002))  # noqa: S311 - spreads writers, protects no secret
        else:
            return


def _execute(connection: sqlite3.Connection, statement: Statement, parameters: Mapping[str, Any]) -> Outcome:
    """Return the row, or the error of a refused statement: SQLite undoes only this statement."""
    values = {name: value.hex if isinstance(value, UUID) else value for name, value in parameters.items()}
    values[ITEM] = 0
    try:
        # All rows are fetched, because an unfinished statement would hold its snapshot.
        rows = connection.execute(statement.sql, values).fetchall()
    except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
        if classify(error) is not Failure.REFUSED:
            raise
        translated = translate(error)
        translated.__cause__ = error
        return translated
    return rows[0] if rows else None
