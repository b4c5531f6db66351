"""Which schema a database has, and bringing it up to date."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from token_service.errors import ConfigurationError
from token_service.stores.sql.engine import WRITES
from token_service.stores.sql.errors import translate

HEAD: Final = "0001"
"""The revision this version of the service works with. A constant, so that a start on an up-to-date database does without Alembic."""

_LOCK: Final = 0x746F6B656E737663
"""PostgreSQL's advisory locks have numbers for names."""

_version_table: Final = sa.table("alembic_version", sa.column("version_num", sa.Text))


async def current_revision(engine: AsyncEngine) -> str | None:
    """The revision of the database's schema; None if it has none. Raises `StoreUnavailableError`."""
    try:
        async with engine.connect() as connection:
            return await _current(connection)
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        raise translate(error) from error


async def require_current(engine: AsyncEngine) -> None:
    """Raise `ConfigurationError` unless the schema is the one this version works with; `StoreUnavailableError` if there is no telling."""
    revision = await current_revision(engine)
    if revision != HEAD:
        raise _mismatch(revision)


async def migrate(engine: AsyncEngine) -> bool:
    """Bring the schema up to date, in one transaction; whether there was anything to do.

    Safe when several nodes do it at once: one does it, the others wait and find it done. There is no way back; restore a backup for that.
    Raises `ConfigurationError` if the schema is of a newer version of the service, `StoreUnavailableError`.
    """
    if await current_revision(engine) == HEAD:
        return False
    try:
        async with engine.connect() as connection:
            await connection.execution_options(**{WRITES: True})
            async with connection.begin():
                if connection.dialect.name == "postgresql":
                    # A migration may take long, and so may waiting for another node's.
                    await connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
                revision = await _current(connection)
                if revision == HEAD:
                    return False
                from token_service.stores.sql.migrations import upgrade

                if revision is not None and revision not in upgrade.known_revisions():
                    raise _mismatch(revision)
                await connection.run_sync(upgrade.upgrade)
                return True
    except (sa.exc.SQLAlchemyError, OSError, TimeoutError) as error:
        raise translate(error) from error


async def _current(connection: AsyncConnection) -> str | None:
    exists = await connection.run_sync(lambda sync: sync.dialect.has_table(sync, _version_table.name))
    if not exists:
        return None
    revision: str | None = (await connection.execute(sa.select(_version_table.c.version_num))).scalar()
    return revision


def _mismatch(revision: str | None) -> ConfigurationError:
    if revision is None:
        return ConfigurationError("the database has no schema yet; run `token-service migrate`")
    return ConfigurationError(
        f"the database's schema is at revision {revision}, this version of the service needs {HEAD}; "
        "run `token-service migrate` of this version, or the version of the service that migrated it"
    )
