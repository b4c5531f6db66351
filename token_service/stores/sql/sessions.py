"""The `SessionStore` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import NO_ORIGIN, AuditEvent, Origin
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import (
    RAISES,
    Amendment,
    Raise,
    Retry,
    Rotation,
    SessionFilter,
    SessionPosition,
    Use,
)
from token_service.errors import ClientDisabledError
from token_service.stores.sql import session_statements
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.errors import unavailable
from token_service.stores.sql.engine.lane import ITEM, Call, Row, Statement
from token_service.stores.sql.expressions import least
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.rows import (
    details_of,
    session_of,
    values_of,
    values_of_amendment,
    values_of_last_use,
    values_of_raise,
)
from token_service.stores.sql.schema import sessions, used_ids
from token_service.stores.sql.used_ids import digest_of, use_digest

_S: Final = sessions.c
_CREATE_ATTEMPTS: Final = 3
_AMEND: Final = session_statements.amend()
_RAISE: Final = session_statements.raise_context()


class SqlSessionStore:
    """The sessions. See `core.sessions.store.SessionStore`.

    `session_statements` explains why the statements decide every race correctly.
    """

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        dialect = database.dialect
        self._database: Final = database
        self._append_events: Final = append_events
        self._insert: Final = Statement(session_statements.insert_session(dialect), dialect)
        self._by_request: Final = Statement(session_statements.select_by_request(), dialect)
        self._ended_client: Final = Statement(session_statements.select_ended_client(), dialect)
        self._by_id: Final = Statement(session_statements.select_by_id(), dialect)
        self._details: Final = Statement(session_statements.select_details(), dialect)
        self._rotate: Final = Statement(session_statements.rotate(), dialect)
        self._retry: Final = Statement(session_statements.retry(), dialect)
        self._use: Final = Statement(session_statements.use(with_hash=False), dialect)
        self._use_with_hash: Final = Statement(session_statements.use(with_hash=True), dialect)

    async def create(
        self, session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN
    ) -> tuple[Session, bool]:
        """See `SessionStore.create`."""
        # No other transaction can lock a new row. Two batches can only wait for each other's request.
        order = (
            b"" if request_hash is None else session.client_id.encode(errors="replace") + b"\0" + request_hash
        )
        call = Call(self._insert, values_of(session, request_hash, origin), order)
        request = {"p_client_id": session.client_id, "p_request_hash": request_hash}
        for _ in range(_CREATE_ATTEMPTS):
            row = await self._database.write_one(call)
            if row is not None:
                return session_of(row), True
            row = await self._database.read_one(Call(self._by_request, request))
            if row is not None:
                return session_of(row), False
            client = {"p_client_id": session.client_id}
            if await self._database.read_one(Call(self._ended_client, client)) is not None:
                raise ClientDisabledError
            # The row was purged, or the client enabled, between the statements.
        raise unavailable()

    async def rotate(self, command: Rotation) -> Session | None:
        """See `SessionStore.rotate`."""
        parameters = {
            "p_id": command.session_id,
            "p_client_id": command.client_id,
            "p_device_id": command.device_id,
            "p_generation": command.generation,
            "p_current_hash": command.current_hash,
            "p_next_hash": command.next_hash,
            "p_key_version": command.key_version,
            "p_now": to_micros(command.now),
            "p_idle_expire_time": to_micros(command.idle_expire_time),
            **values_of_last_use(command.origin),
        }
        return await self._update(self._rotate, parameters)

    async def retry(self, command: Retry) -> Session | None:
        """See `SessionStore.retry`."""
        parameters = {
            "p_id": command.session_id,
            "p_client_id": command.client_id,
            "p_device_id": command.device_id,
            "p_generation": command.generation,
            "p_previous_hash": command.previous_hash,
            "p_rotated_after": to_micros(command.rotated_after),
            "p_max_retries": command.max_retries,
            "p_now": to_micros(command.now),
        }
        return await self._update(self._retry, parameters)

    async def use(self, command: Use) -> Session | None:
        """See `SessionStore.use`."""
        parameters: dict[str, Any] = {
            "p_id": command.session_id,
            "p_now": to_micros(command.now),
            "p_idle_expire_time": to_micros(command.idle_expire_time),
        }
        if command.refresh_hash is None:
            return await self._update(self._use, parameters)
        parameters |= {"p_refresh_hash": command.refresh_hash, **values_of_last_use(command.origin)}
        return await self._update(self._use_with_hash, parameters)

    async def amend(self, command: Amendment, events: Sequence[AuditEvent] = ()) -> Session | None:
        """See `SessionStore.amend`."""
        parameters = {**values_of_amendment(command), ITEM: 0}

        async def work(connection: AsyncConnection) -> Session | None:
            row = (await connection.execute(_AMEND, parameters)).first()
            if row is not None:
                await self._append_events(connection, events)
            return _session(row)

        return await self._database.write(work)

    async def raise_context(
        self, command: Raise, events: Sequence[AuditEvent] = ()
    ) -> tuple[Session | None, bool]:
        """See `SessionStore.raise_context`."""
        parameters = {**values_of_raise(command), ITEM: 0}
        digest = digest_of(RAISES, command.grant_id)
        use = sa.delete(used_ids).where(used_ids.c.hash == digest)

        async def work(connection: AsyncConnection) -> tuple[Session | None, bool]:
            # The use comes first: calls with the same grant wait for each other here, before they read the row.
            if not await use_digest(connection, digest, command.expire_time, command.now):
                return None, False
            row = (await connection.execute(_RAISE, parameters)).first()
            if row is None:
                await connection.execute(use)
            else:
                await self._append_events(connection, events)
            return _session(row), True

        return await self._database.write(work)

    async def get(self, session_id: UUID) -> Session | None:
        """See `SessionStore.get`."""
        return _session(await self._database.read_one(Call(self._by_id, {"p_id": session_id})))

    async def describe(self, session_id: UUID) -> SessionDetails | None:
        """See `SessionStore.describe`."""
        row = await self._database.read_one(Call(self._details, {"p_id": session_id}))
        return None if row is None else details_of(row)

    async def list(
        self,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        limit: int,
        after: SessionPosition | None,
        personal: bool = False,
        client_id: str = "",
    ) -> Sequence[SessionDetails]:
        """See `SessionStore.list`."""
        statement = (
            session_statements.details()
            .where(_S[by.value] == value)
            .order_by(_S.create_time.desc(), _S.id.desc())
            .limit(limit)
        )
        if by is SessionFilter.DEVICE:
            statement = statement.where(_S.device_id != sa.literal_column("''"))  # the condition of the index
        if personal:
            statement = statement.where(_S.personal_hash.is_not(None))
        if client_id:
            statement = statement.where(_S.client_id == client_id)
        if live_at is not None:
            statement = statement.where(
                session_statements.live(sa.literal(to_micros(live_at), sa.BigInteger))
            )
        if after is not None:
            position = sa.tuple_(
                sa.literal(to_micros(after.create_time), sa.BigInteger), sa.literal(after.session_id, sa.Uuid)
            )
            statement = statement.where(sa.tuple_(_S.create_time, _S.id) < position)

        async def select(connection: AsyncConnection) -> Sequence[SessionDetails]:
            return [details_of(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def by_upstream(
        self, upstream: str, upstream_session: str, *, live_at: float, limit: int
    ) -> Sequence[UUID]:
        """See `SessionStore.by_upstream`."""
        statement = (
            sa.select(_S.id)
            .where(
                _S.upstream == upstream,
                _S.upstream_session == upstream_session,
                session_statements.live(sa.literal(to_micros(live_at), sa.BigInteger)),
            )
            .order_by(_S.id)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> Sequence[UUID]:
            return list((await connection.execute(statement)).scalars())

        return await self._database.read(select)

    async def purge(self, before: float, limit: int) -> int:
        """See `SessionStore.purge`.

        Checks rows in the order of `purge_time`. An ended session is deleted. The `purge_time` of a live session
        becomes its current end. So each row is checked once per idle timeout, and no row is scanned twice.
        """
        deleted = 0
        while deleted < limit:
            seen, gone = await self._purge(to_micros(before), limit - deleted)
            deleted += gone
            if not seen:
                break
        return deleted

    async def _purge(self, before: int, limit: int) -> tuple[int, int]:
        end = least(
            _S.idle_expire_time,
            _S.absolute_expire_time,
            sa.func.coalesce(_S.revoke_time, _S.absolute_expire_time),
        )
        due = (
            sa.select(_S.id, end < before)
            .where(_S.purge_time < before)
            .order_by(_S.purge_time)
            .limit(limit)
            # A locked row is in use, so its session has not ended, or the next round deletes it. The statement
            # waits for no lock, so it can't deadlock.
            .with_for_update(skip_locked=True)
        )

        async def work(connection: AsyncConnection) -> tuple[int, int]:
            rows = (await connection.execute(due)).all()
            ended = [id_ for id_, over in rows if over]
            others = [id_ for id_, over in rows if not over]
            if ended:
                await connection.execute(sa.delete(sessions).where(_S.id.in_(ended)))
            if others:
                await connection.execute(sa.update(sessions).where(_S.id.in_(others)).values(purge_time=end))
            return len(rows), len(ended)

        return await self._database.write(work)

    async def _update(self, statement: Statement, parameters: dict[str, Any]) -> Session | None:
        return _session(await self._database.write_one(Call(statement, parameters, parameters["p_id"].bytes)))


def _session(row: Row | None) -> Session | None:
    return None if row is None else session_of(row)
