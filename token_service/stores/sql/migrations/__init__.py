"""Which schema a database has, and bringing it up to date."""

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

HEAD: Final = "0004"
"""The revision this version of the service works with. A constant, so that a start on an up-to-date database
does without Alembic.
"""

PATIENCE: Final = 3600.0
"""Seconds that a statement of a migration, or the wait for another node's migration, may take."""

_LOCK: Final = 0x746F6B656E737663
"""PostgreSQL's advisory locks have numbers for names."""

_version_table: Final = sa.table("alembic_version", sa.column("version_num", sa.Text))


async def current_revision(url: DatabaseUrl) -> str | None:
    """The revision of the database's schema; None if it has none.

    Raises `ConfigurationError` if the database does not let the service in or is not suitable,
    `StoreUnavailableError`.
    """
    if url.path is not None and not url.path.exists():
        return None  # looking would make an empty file
    if url.path is None:
        from token_service.stores.sql.engine.postgresql import require_suitable

        with _explained(url):
            await require_suitable(url)
    async with _transaction(url, writes=False) as connection:
        return await _revision(connection)


async def require_current(url: DatabaseUrl) -> None:
    """Raise `ConfigurationError` unless the schema is the one this version works with, and else as
    `current_revision`.
    """
    revision = await current_revision(url)
    if revision != HEAD:
        raise _mismatch(revision)


async def migrate(url: DatabaseUrl) -> bool:
    """Bring the schema up to date, in one transaction; whether there was anything to do.

    Safe when several nodes do it at once: one does it, the others wait and find it done. There is no way
    back; restore a backup for that. Raises `ConfigurationError` if the schema is of a newer version of the
    service, and else as `current_revision`.
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
        # Shown to who starts the service, and so with the place and the kind of trouble.
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
    """For its owner only, and with a write-ahead log. SQLite gives the files beside it the same mode."""
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
