"""The `UsedIds` on SQL."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import used_ids

_CLOCKS_APART: Final = 60.0
_PURGED: Final = 100
"""Expired rows that each use deletes at most, so that the table stays small without a job."""


class SqlUsedIds:
    """Identifiers that were used. See `core.access.used_ids.UsedIds`."""

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events

    async def use(
        self,
        scope: str,
        identifier: str,
        expire_time: float,
        now: float,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `UsedIds.use`."""
        digest = digest_of(scope, identifier)

        async def work(connection: AsyncConnection) -> bool:
            is_first = await use_digest(connection, digest, expire_time, now)
            if is_first and events:
                await self._append_events(connection, events)
            return is_first

        return await self._database.write(work)

    async def was_used(self, scope: str, identifier: str) -> bool:
        """See `UsedIds.was_used`."""
        statement = sa.select(used_ids.c.hash).where(used_ids.c.hash == digest_of(scope, identifier))

        async def select(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).first() is not None

        return await self._database.read(select)


def digest_of(scope: str, identifier: str) -> bytes:
    """Return the key of an identifier."""
    return hashlib.sha256(f"{scope}\0{identifier}".encode()).digest()


async def use_digest(connection: AsyncConnection, digest: bytes, expire_time: float, now: float) -> bool:
    """Record a digest in the transaction of a connection; return whether it is the first time. See `UsedIds.use`."""
    statement = insert(used_ids, connection.dialect).values(hash=digest, expire_time=to_micros(expire_time))
    statement = statement.on_conflict_do_nothing(index_elements=[used_ids.c.hash])
    expired = (
        sa.select(used_ids.c.hash)
        .where(used_ids.c.expire_time < to_micros(now - _CLOCKS_APART))
        .order_by(used_ids.c.expire_time)
        .limit(_PURGED)
        .with_for_update(skip_locked=True)
    )
    first = bool((await connection.execute(statement)).rowcount)
    over = list((await connection.execute(expired)).scalars())
    if over:
        await connection.execute(sa.delete(used_ids).where(used_ids.c.hash.in_(over)))
    return first
