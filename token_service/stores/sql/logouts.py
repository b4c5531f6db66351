"""The `LogoutStore` on SQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.logout.store import Backlog, Delivery, EndedSession
from token_service.core.sessions.store import SessionFilter
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import logout_cursor, logout_deliveries, sessions
from token_service.tokens.revocation import Revocation

_S: Final = sessions.c
_D: Final = logout_deliveries.c
_ENDED: Final = sa.select(_S.id, _S.client_id, _S.subject).where(_S.personal_hash.is_(None))


class SqlLogoutStore:
    """The deliveries of logouts. See `core.logout.store.LogoutStore`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def cursor(self) -> int:
        """See `LogoutStore.cursor`."""

        async def select(connection: AsyncConnection) -> int:
            found: int = (await connection.execute(sa.select(logout_cursor.c.sequence))).scalar_one()
            return found

        return await self._database.read(select)

    async def sessions(self, ids: Collection[UUID]) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions`."""
        return await self._ended(_ENDED.where(_S.id.in_(ids)).order_by(_S.id))

    async def sessions_ended_by(
        self, by: SessionFilter, value: str, entry: Revocation, limit: int
    ) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions_ended_by`."""
        time = to_micros(entry.revoke_time)
        statement = (
            _ENDED.where(
                _S[by.value] == value,
                _S.revision < entry.sequence,
                _S.idle_expire_time > time,
                _S.absolute_expire_time > time,
                sa.or_(_S.revoke_time.is_(None), _S.revoke_time > time),
            )
            .order_by(_S.create_time.desc(), _S.id.desc())
            .limit(limit)
        )
        return await self._ended(statement)

    async def plan(self, sessions: Sequence[EndedSession], after: int, through: int, now: float) -> bool:
        """See `LogoutStore.plan`."""
        move = sa.update(logout_cursor).where(logout_cursor.c.sequence == after).values(sequence=through)
        add = insert(logout_deliveries, self._database.dialect).on_conflict_do_nothing()
        time = to_micros(now)
        rows = [
            {
                "session_id": each.session_id,
                "client_id": each.client_id,
                "subject": each.subject,
                "create_time": time,
                "due_time": time,
                "attempts": 0,
            }
            for each in sessions
        ]

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(move)).rowcount:
                return False
            if rows:
                await connection.execute(add, rows)
            return True

        return await self._database.write(work)

    async def due(self, now: float, limit: int, besides: Collection[str]) -> Sequence[Delivery]:
        """See `LogoutStore.due`."""
        statement = (
            sa.select(_D.session_id, _D.client_id, _D.subject, _D.create_time, _D.attempts)
            .where(_D.due_time <= to_micros(now), _D.client_id.not_in(besides))
            .order_by(_D.due_time, _D.session_id)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> Sequence[Delivery]:
            return [
                Delivery(EndedSession(*row[:3]), row.create_time / 1_000_000, row.attempts)
                for row in await connection.execute(statement)
            ]

        return await self._database.read(select)

    async def finish(self, session_ids: Collection[UUID]) -> None:
        """See `LogoutStore.finish`."""
        await self._write(sa.delete(logout_deliveries).where(_D.session_id.in_(session_ids)))

    async def postpone(self, session_id: UUID, attempts: int, due_time: float) -> None:
        """See `LogoutStore.postpone`."""
        await self._write(
            sa.update(logout_deliveries)
            .where(_D.session_id == session_id)
            .values(attempts=attempts, due_time=to_micros(due_time))
        )

    async def postpone_client(self, client_id: str, due_time: float) -> None:
        """See `LogoutStore.postpone_client`."""
        time = to_micros(due_time)
        await self._write(
            sa.update(logout_deliveries)
            .where(_D.client_id == client_id, _D.due_time < time)
            .values(due_time=time)
        )

    async def backlog(self) -> Backlog:
        """See `LogoutStore.backlog`."""

        async def select(connection: AsyncConnection) -> Backlog:
            statement = sa.select(sa.func.count(), sa.func.min(_D.due_time)).select_from(logout_deliveries)
            count, earliest = (await connection.execute(statement)).one()
            return Backlog(count, to_seconds(earliest))

        return await self._database.read(select)

    async def _ended(self, statement: sa.Select[Any]) -> Sequence[EndedSession]:
        async def select(connection: AsyncConnection) -> Sequence[EndedSession]:
            return [EndedSession(*row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def _write(self, statement: sa.Executable) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)
