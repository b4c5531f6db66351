"""The `SessionWalk` on SQL."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.sessions.walk import MAX_WALKED, WalkedSession, WalkFilter, WalkPart
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import sessions
from token_service.stores.sql.session_statements import live

_S: Final = sessions.c


class SqlSessionWalk:
    """Walks the sessions by their primary key. See `core.sessions.walk.SessionWalk`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def part(self, where: WalkFilter, *, live_at: float, limit: int, after: UUID | None) -> WalkPart:
        """See `SessionWalk.part`."""
        begin = sa.true() if after is None else _S.id > sa.literal(after, sa.Uuid)
        last = sa.select(_S.id).where(begin).order_by(_S.id).offset(MAX_WALKED - 1).limit(1)
        found = (
            sa.select(
                _S.id,
                _S.client_id,
                _S.classification,
                _S.create_time,
                _S.last_use_time,
                _S.personal_hash.is_not(None).label("is_personal"),
            )
            .where(begin, _matches(where), live(sa.literal(to_micros(live_at), sa.BigInteger)))
            .order_by(_S.id)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> WalkPart:
            end: UUID | None = await connection.scalar(last)
            statement = found if end is None else found.where(_S.id <= sa.literal(end, sa.Uuid))
            part = [
                WalkedSession(
                    session_id=row.id,
                    client_id=row.client_id,
                    classification=row.classification or "",
                    create_time=row.create_time / 1_000_000,
                    last_use_time=row.last_use_time / 1_000_000,
                    is_personal=bool(row.is_personal),
                )
                for row in await connection.execute(statement)
            ]
            return WalkPart(part, part[-1].session_id if len(part) == limit else end)

        return await self._database.read(select)


def _matches(where: WalkFilter) -> sa.ColumnElement[bool]:
    conditions: list[sa.ColumnElement[bool]] = []
    if where.created_before is not None:
        conditions.append(_S.create_time < to_micros(where.created_before))
    if where.used_before is not None:
        conditions.append(_S.last_use_time < to_micros(where.used_before))
    if where.classified:
        conditions.append(_S.classification.is_not(None))
    return sa.or_(sa.false(), *conditions)
