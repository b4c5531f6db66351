"""The schema revision of a database, its migration to the current one, and the way back."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.errors import ConfigurationError, NewerSchemaError, StoreUnavailableError
from token_service.stores.sql.engine.engine import WRITES, create_engine, driver_errors
from token_service.stores.sql.engine.errors import RETRY_AFTER, is_login_refused, name_of
from token_service.stores.sql.engine.sqlite_file import SqliteFile
from token_service.stores.sql.migrations.step import Step
from token_service.urls import DatabaseUrl

_T = TypeVar("_T")

HEAD: Final = "0020"
"""The schema revision that this version of the token service needs.

It is a constant, so that a start on an up-to-date database does not import Alembic.
"""

PATIENCE: Final = 3600.0
"""Seconds for a statement of a migration, or for the wait for the migration of another node."""

TABLE_PATIENCE: Final = 60.0
"""Seconds to try for the locks of the tables that a migration changes."""

_TABLE_LOCK_TIMEOUT: Final = "2s"
"""The wait for the lock of one table. Calls for the table queue behind it."""

_TABLE_PAUSE: Final = 1.0
"""Seconds between two attempts, in which the queued calls are answered."""

_NO_LOCK: Final = frozenset(("55P03", "40P01"))
"""A lock not acquired in time, deadlock."""

_logger: Final = logging.getLogger(__name__)

_LOCK: Final = 0x746F6B656E737663
"""The number of the advisory lock of PostgreSQL."""

_PERSONAL_DATA: Final = "0017"
_ENCRYPTION: Final = sa.text("SELECT personal_data_state FROM log_head")

_version_table: Final = sa.table("alembic_version", sa.column("version_num", sa.Text))


async def current_revision(url: DatabaseUrl) -> str | None:
    """Return the schema revision of the database, or None without a schema.

    Raises `ConfigurationError` if the database refuses the login or is unsuitable, and `StoreUnavailableError`.
    """
    if url.path is not None and not url.path.exists():
        return None  # a connection would create an empty file
    if url.path is None:
        from token_service.stores.sql.engine.postgresql import require_suitable

        with _explained(url):
            await require_suitable(url)
    async with _transaction(url, writes=False) as connection:
        return await _revision(connection)


async def require_current(url: DatabaseUrl) -> None:
    """Raise `ConfigurationError` unless the schema has the revision of this version, `NewerSchemaError` if it is newer.

    Also raises the errors of `current_revision`.
    """
    revision = await current_revision(url)
    if revision is None:
        raise ConfigurationError(
            f"the database {url} has no schema yet; run `token-service migrate`, or name the database of the service "
            "with --database-url"
        )
    if revision != HEAD:
        raise _mismatch(revision)


async def migrate(url: DatabaseUrl, progress: Callable[[int, int], None] = lambda _done, _all: None) -> bool:
    """Migrate the schema in one transaction, and return whether it had to be changed.

    Several nodes may call this function at once: one node migrates, the others wait and find the schema current. Calls
    of running nodes wait for the tables for some seconds at most; see `_changed`. Raises `NewerSchemaError` if the
    schema is from a newer version of the token service, and the errors of `current_revision`.

    `progress` is called with the number of migrations done and of all missing ones.
    """
    if url.path is not None:
        await asyncio.to_thread(_make_file, url, url.path)
    if await current_revision(url) == HEAD:
        return False

    async def work(connection: AsyncConnection) -> bool:
        revision = await _revision(connection)
        if revision == HEAD:
            return False
        from token_service.stores.sql.migrations import upgrade

        if revision is not None and revision not in upgrade.known_revisions():
            raise _mismatch(revision)
        await connection.run_sync(upgrade.upgrade, progress=progress)
        return True

    return await _changed(url, work)


async def undo(
    url: DatabaseUrl, to: str, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Undo the migrations after the revision `to`, in one transaction. What they added is deleted with its content.

    Raises `ConfigurationError` if one of them can't be undone, and the errors of `undoable`. `progress` is called as by
    `migrate`.
    """
    from token_service.stores.sql.migrations import upgrade

    async def work(connection: AsyncConnection) -> None:
        for step in _undone(await _revision(connection), to):
            if step.undo_loses is None:
                raise ConfigurationError(
                    f"migration {step.revision} can't be undone: restore the backup made before it"
                )
            if step.revision == _PERSONAL_DATA and await connection.scalar(_ENCRYPTION):
                raise ConfigurationError(
                    "the personal data of the database is encrypted, and the schema before 0017 has no place for its keys; run "
                    "`token-service personal-data decrypt` first"
                )
        await connection.run_sync(upgrade.downgrade, to, progress)

    await undoable(url, to)  # raises without a file of SQLite, too
    await _changed(url, work)


async def undoable(url: DatabaseUrl, to: str) -> tuple[str | None, Sequence[Step]]:
    """Return the revision of the schema, and the migrations that `undo` would undo, the last one first. Changes nothing.

    Raises `ConfigurationError` if `to` is not a revision before that of the schema, and the errors of `current_revision`.
    """
    revision = await current_revision(url)
    return revision, _undone(revision, to)


def _undone(revision: str | None, to: str) -> Sequence[Step]:
    from token_service.stores.sql.migrations import upgrade

    steps = upgrade.steps()
    known = [step.revision for step in steps]
    if revision is not None and revision not in known:
        raise _mismatch(revision)
    if revision is None or to not in known or known.index(to) > known.index(revision):
        raise ConfigurationError(
            f"the database is at schema {revision or 'none'}, so it can't go back to schema {to}; the schemas are "
            + ", ".join(known)
        )
    return steps[known.index(to) + 1 : known.index(revision) + 1][::-1]


async def missing(url: DatabaseUrl) -> tuple[str | None, Sequence[Step]]:
    """Return the revision of the schema, or None without one, and the migrations that `migrate` would run. Changes nothing.

    Raises the errors of `migrate`.
    """
    revision = await current_revision(url)
    if revision == HEAD:
        return revision, ()
    from token_service.stores.sql.migrations import upgrade

    steps = upgrade.steps()
    if revision is not None and revision not in {step.revision for step in steps}:
        raise _mismatch(revision)
    return revision, [step for step in steps if revision is None or step.revision > revision]


async def _changed(url: DatabaseUrl, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    """Return the result of `work` in a transaction that runs beside no other migration.

    On PostgreSQL a change of a table waits for the transactions that use the table, such as a backup, and all calls for
    the table wait behind it. So each attempt waits for a short time, and gives way to the calls before the next one.
    """
    deadline = time.monotonic() + TABLE_PATIENCE
    while True:
        try:
            async with _transaction(url, writes=True) as connection:
                if connection.dialect.name == "postgresql":
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                    await connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_TABLE_LOCK_TIMEOUT}'"))
                return await work(connection)
        except StoreUnavailableError as error:
            if not _lacks_lock(error.__cause__):
                raise
            if time.monotonic() > deadline:
                raise StoreUnavailableError(
                    f"the database {url} is in use by a long transaction, such as a backup: the migration got no lock on a "
                    f"table within {TABLE_PATIENCE:.0f} s and changed nothing; end the transaction or wait for its end, and "
                    "run it again",
                    retry_after=RETRY_AFTER,
                ) from error
            _logger.warning("another transaction uses a table that the migration changes; trying again")
        await asyncio.sleep(_TABLE_PAUSE)


def _lacks_lock(error: BaseException | None) -> bool:
    return getattr(getattr(error, "orig", error), "sqlstate", None) in _NO_LOCK


@asynccontextmanager
async def _transaction(url: DatabaseUrl, *, writes: bool) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(url, 1, statement_timeout=PATIENCE if writes else None)
    try:
        with _explained(url):
            async with engine.connect() as connection:
                await connection.execution_options(**{WRITES: writes})
                async with connection.begin():
                    yield connection
    finally:
        await engine.dispose()


@contextmanager
def _explained(url: DatabaseUrl) -> Iterator[None]:
    try:
        yield
    except driver_errors(url) as error:
        # The operator who starts the node sees the message, so it names the database and the kind of error.
        if is_login_refused(error):
            raise ConfigurationError(
                f"the database {url} refused the service: {name_of(error)}; check user, password and database"
            ) from error
        raise _unavailable(url, error) from error


async def _revision(connection: AsyncConnection) -> str | None:
    exists = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, _version_table.name))
    if not exists:
        return None
    revision: str | None = (await connection.execute(sa.select(_version_table.c.version_num))).scalar()
    return revision


def _make_file(url: DatabaseUrl, path: Path) -> None:
    """Create the file for its owner only, with a write-ahead log. SQLite gives its other files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(f"the database file {path} can't be written: {error.strerror}") from error
    from token_service.stores.sql.engine import sqlite

    try:
        sqlite.connect(SqliteFile(path).uri, sqlite.BUSY_TIMEOUT).close()
    except driver_errors(url) as error:
        raise _unavailable(url, error) from error


def _unavailable(url: DatabaseUrl, error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"the database {url} is unavailable: {name_of(error)}", retry_after=RETRY_AFTER
    )


def _mismatch(revision: str) -> ConfigurationError:
    if revision.isdecimal() and int(revision) > int(HEAD):
        return NewerSchemaError(
            f"the schema {revision} is newer than this version ({HEAD}); use the version of the service that migrated "
            "it, let that version go back (`token-service migrate --undo-to`), or restore the backup made before it"
        )
    return ConfigurationError(
        f"the database's schema is at revision {revision}, this version of the service needs {HEAD}; "
        "run `token-service migrate` of this version, or the version of the service that migrated it"
    )
