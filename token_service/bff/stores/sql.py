"""Sessions in PostgreSQL or SQLite, through the asyncio engine of SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from token_service.bff.store import Logout, StoredSession
from token_service.errors import StoreUnavailableError

_PURGE_EVERY: Final = 60.0
_PURGED_AT_ONCE: Final = 500
_RETRY_AFTER: Final = 1.0

metadata = sa.MetaData()
"""The tables, for the migrations of an application."""

_sessions = sa.Table(
    "bff_sessions",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("subject", sa.String(64), nullable=False, index=True),
    sa.Column("sid", sa.String(64), nullable=False, index=True),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("expire_time", sa.Double, nullable=False, index=True),
    sa.Column("idle_expire_time", sa.Double, nullable=False, index=True),
    sa.Column("lease_holder", sa.String(64), nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
)
_used_names = sa.Table(
    "bff_used_names",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("expire_time", sa.Double, nullable=False, index=True),
)
_of = _sessions.c


class SqlSessionStore:
    """A `SessionStore` in a database. The caller owns the engine and its pool."""

    def __init__(self, engine: AsyncEngine, *, timeout: float = 3.0) -> None:
        """`timeout`: seconds for one call, with the wait for a connection."""
        self._engine = engine
        # A method of one statement takes one round trip instead of three. The pool is the same.
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._timeout = timeout
        self._next_purge = 0.0

    async def create_tables(self) -> None:
        """Create the tables that do not exist. Applications with migrations use `metadata` instead."""
        async with self._begin() as connection:
            await connection.run_sync(metadata.create_all)

    async def create(self, session: StoredSession, now: float, keep: int | None) -> None:
        """See `SessionStore.create`. Deletes expired rows as well, at most once a minute."""
        async with self._begin() as connection:
            await connection.execute(
                _sessions.insert().values(
                    key=session.key,
                    subject=session.subject,
                    sid=session.sid,
                    payload=session.payload,
                    version=session.version,
                    expire_time=session.expire_time,
                    idle_expire_time=session.idle_expire_time,
                    lease_holder="",
                    lease_until=0.0,
                )
            )
            if keep is not None:
                kept = (
                    sa.select(_of.key)
                    .where(_of.subject == session.subject, _is_live(now))
                    .order_by(_of.expire_time.desc(), _of.key.desc())
                    .limit(keep)
                )
                await connection.execute(
                    _sessions.delete().where(_of.subject == session.subject, _of.key.not_in(kept))
                )
        if now >= self._next_purge:
            self._next_purge = now + _PURGE_EVERY
            await self._purge(now)

    async def load(self, key: str, now: float) -> StoredSession | None:
        """See `SessionStore.load`."""
        async with self._begin(self._autocommit) as connection:
            return await _load(connection, key, now)

    async def touch(self, key: str, idle_expire_time: float) -> None:
        """See `SessionStore.touch`."""
        await self._change(
            _sessions.update()
            .where(_of.key == key, _of.idle_expire_time < idle_expire_time)
            .values(idle_expire_time=idle_expire_time)
        )

    async def lease(self, key: str, holder: str, now: float, until: float) -> StoredSession | None:
        """See `SessionStore.lease`."""
        async with self._begin() as connection:
            free = sa.or_(_of.lease_holder == holder, _of.lease_until <= now)
            leased = await connection.execute(
                _sessions.update()
                .where(_of.key == key, _is_live(now), free)
                .values(lease_holder=holder, lease_until=until)
            )
            # The update holds the row's lock, so the row is as the lease found it.
            return await _load(connection, key, now) if leased.rowcount else None

    async def release(self, key: str, holder: str) -> None:
        """See `SessionStore.release`."""
        await self._change(
            _sessions.update()
            .where(_of.key == key, _of.lease_holder == holder)
            .values(lease_holder="", lease_until=0.0)
        )

    async def replace(self, key: str, version: int, payload: str) -> bool:
        """See `SessionStore.replace`."""
        statement = (
            _sessions.update()
            .where(_of.key == key, _of.version == version)
            .values(payload=payload, version=version + 1)
        )
        return await self._change(statement) > 0

    async def delete(self, key: str, version: int | None = None) -> bool:
        """See `SessionStore.delete`."""
        statement = _sessions.delete().where(_of.key == key)
        if version is not None:
            statement = statement.where(_of.version == version)
        return await self._change(statement) > 0

    async def log_out(self, logout: Logout, now: float) -> int | None:
        """See `SessionStore.log_out`."""
        meant = [
            column == value
            for column, value in ((_of.subject, logout.subject), (_of.sid, logout.sid))
            if value
        ]
        async with self._begin() as connection:
            if not await _remember(connection, logout.token_id, logout.expire_time, now):
                return None
            return int((await connection.execute(_sessions.delete().where(*meant))).rowcount)

    async def use_once(self, name: str, expire_time: float, now: float) -> bool:
        """See `SessionStore.use_once`."""
        async with self._begin() as connection:
            return await _remember(connection, name, expire_time, now)

    async def _purge(self, now: float) -> None:
        """Delete some expired rows. Two processes that do so at once delete different or the same ones."""
        over = sa.select(_of.key).where(sa.not_(_is_live(now))).limit(_PURGED_AT_ONCE)
        forgotten = (
            sa.select(_used_names.c.name).where(_used_names.c.expire_time <= now).limit(_PURGED_AT_ONCE)
        )
        await self._change(_sessions.delete().where(_of.key.in_(over)))
        await self._change(_used_names.delete().where(_used_names.c.name.in_(forgotten)))

    async def _change(self, statement: Any) -> int:
        async with self._begin(self._autocommit) as connection:
            return int((await connection.execute(statement)).rowcount)

    @asynccontextmanager
    async def _begin(self, engine: AsyncEngine | None = None) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction within the time of a call, and translate the errors of the driver."""
        try:
            async with asyncio.timeout(self._timeout), (engine or self._engine).begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise StoreUnavailableError(
                f"the session store is unavailable: {type(error).__name__}", retry_after=_RETRY_AFTER
            ) from error


def _is_live(now: float) -> sa.ColumnElement[bool]:
    return sa.and_(_of.expire_time > now, _of.idle_expire_time > now)


async def _load(connection: AsyncConnection, key: str, now: float) -> StoredSession | None:
    found = await connection.execute(sa.select(_sessions).where(_of.key == key, _is_live(now)))
    row = found.one_or_none()
    if row is None:
        return None
    return StoredSession(
        key=row.key,
        subject=row.subject,
        sid=row.sid,
        payload=row.payload,
        expire_time=row.expire_time,
        idle_expire_time=row.idle_expire_time,
        version=row.version,
    )


async def _remember(connection: AsyncConnection, name: str, expire_time: float, now: float) -> bool:
    """Insert a name, or take over a row that has expired."""
    renewed = await connection.execute(
        _used_names.update()
        .where(_used_names.c.name == name, _used_names.c.expire_time <= now)
        .values(expire_time=expire_time)
    )
    if renewed.rowcount:
        return True
    try:
        async with connection.begin_nested():
            await connection.execute(_used_names.insert().values(name=name, expire_time=expire_time))
    except IntegrityError:
        return False
    return True
