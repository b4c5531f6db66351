"""The `LogoutStore` on SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.logout.store import Backlog, Delivery, EndedSession
from token_service.core.personal_data.cipher import Place
from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.sessions.store import SessionFilter
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_session, open_text, sealed_text
from token_service.stores.sql.schema import logout_cursor, logout_deliveries, sessions
from token_service.stores.sql.sessions import is_owned
from token_service.tokens.revocation import Revocation

_S: Final = sessions.c
_D: Final = logout_deliveries.c
_ENDED: Final = sa.select(_S.id, _S.client_id, _S.subject, _S.personal).where(_S.personal_hash.is_(None))


class SqlLogoutStore:
    """The deliveries of logouts. See `core.logout.store.LogoutStore`."""

    def __init__(self, database: Database, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal

    async def cursor(self) -> int:
        """See `LogoutStore.cursor`."""

        async def select(connection: AsyncConnection) -> int:
            found: int = (await connection.execute(sa.select(logout_cursor.c.sequence))).scalar_one()
            return found

        return await self._database.read(select)

    async def sessions(self, ids: Collection[UUID]) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions`."""
        return await self._ended(lambda _: _ENDED.where(_S.id.in_(ids)).order_by(_S.id))

    async def sessions_ended_by(
        self, by: SessionFilter, value: str, entry: Revocation, limit: int
    ) -> Sequence[EndedSession]:
        """See `LogoutStore.sessions_ended_by`."""
        time = to_micros(entry.revoke_time)
        statement = (
            _ENDED.where(
                _S.revision < entry.sequence,
                _S.idle_expire_time > time,
                _S.absolute_expire_time > time,
                sa.or_(_S.revoke_time.is_(None), _S.revoke_time > time),
            )
            .order_by(_S.create_time.desc(), _S.id.desc())
            .limit(limit)
        )
        return await self._ended(lambda keys: statement.where(is_owned(by, value, keys)))

    async def plan(self, sessions: Sequence[EndedSession], after: int, through: int, now: float) -> bool:
        """See `LogoutStore.plan`."""
        move = sa.update(logout_cursor).where(logout_cursor.c.sequence == after).values(sequence=through)
        add = insert(logout_deliveries, self._database.dialect).on_conflict_do_nothing()
        time = to_micros(now)

        async def work(connection: AsyncConnection) -> bool:
            keys = await self._personal.current(connection, shared=True)
            rows = [
                {
                    "session_id": each.session_id,
                    "client_id": each.client_id,
                    "subject": sealed_text(keys, Place.LOGOUT_SUBJECT, each.session_id.bytes, each.subject),
                    "create_time": time,
                    "due_time": time,
                    "attempts": 0,
                }
                for each in sessions
            ]
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

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return list(await connection.execute(statement))

        rows = await self._database.read(select)
        return await self._personal.opened(lambda keys: [_delivery(row, keys) for row in rows])

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

    async def _ended(self, statement_of: Callable[[PersonalKeys], sa.Select[Any]]) -> Sequence[EndedSession]:
        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            statement = statement_of(await self._personal.current(connection))
            return list(await connection.execute(statement))

        rows = await self._database.read(select, snapshot=True)
        return await self._personal.opened(lambda keys: [_ended_session(row, keys) for row in rows])

    async def _write(self, statement: sa.Executable) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)


def _ended_session(row: sa.Row[Any], keys: PersonalKeys) -> EndedSession:
    subject = row.subject if row.personal is None else open_session(keys, row.id, row.personal).subject
    return EndedSession(row.id, row.client_id, subject)


def _delivery(row: sa.Row[Any], keys: PersonalKeys) -> Delivery:
    subject = open_text(keys, Place.LOGOUT_SUBJECT, row.session_id.bytes, row.subject)
    ended = EndedSession(row.session_id, row.client_id, subject)
    return Delivery(ended, row.create_time / 1_000_000, row.attempts)
