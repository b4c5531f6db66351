"""The schema revision of a database, and its migration to the current one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.stores.sql.engine.engine import WRITES, create_engine, driver_errors
from token_service.stores.sql.engine.errors import RETRY_AFTER, is_login_refused, name_of
from token_service.stores.sql.engine.sqlite_file import SqliteFile
from token_service.urls import DatabaseUrl

HEAD: Final = "0011"
"""The schema revision that this version of the token service needs.

It is a constant, so that a start on an up-to-date database does not import Alembic.
"""

PATIENCE: Final = 3600.0
"""Seconds for a statement of a migration, or for the wait for the migration of another node."""

_LOCK: Final = 0x746F6B656E737663
"""The number of the advisory lock of PostgreSQL."""

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
    """Raise `ConfigurationError` unless the schema has the revision of this version.

    Also raises the errors of `current_revision`.
    """
    revision = await current_revision(url)
    if revision != HEAD:
        raise _mismatch(revision)


async def migrate(url: DatabaseUrl) -> bool:
    """Migrate the schema in one transaction, and return whether it had to be changed.

    Several nodes may call this function at once: one node migrates, the others wait and find the schema current. A
    migration can't be undone except by the restore of a backup. Raises `ConfigurationError` if the schema is from a
    newer version of the token service, and the errors of `current_revision`.
    """
    if url.path is not None:
        await asyncio.to_thread(_make_file, url, url.path)
    if await current_revision(url) == HEAD:
        return False
    async with _transaction(url, writes=True) as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        revision = await _revision(connection)
        if revision == HEAD:
            return False
        from token_service.stores.sql.migrations import upgrade

        if revision is not None and revision not in upgrade.known_revisions():
            raise _mismatch(revision)
        await connection.run_sync(upgrade.upgrade)
        return True


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


def _mismatch(revision: str | None) -> ConfigurationError:
    if revision is None:
        return ConfigurationError("the database has no schema yet; run `token-service migrate`")
    return ConfigurationError(
        f"the database's schema is at revision {revision}, this version of the service needs {HEAD}; "
        "run `token-service migrate` of this version, or the version of the service that migrated it"
    )
