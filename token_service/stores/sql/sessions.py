"""The `SessionStore` on SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import NO_ORIGIN, AuditEvent, Origin
from token_service.core.personal_data.cipher import Kind, UnknownDataKeyError
from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import (
    RAISES,
    Amendment,
    Race,
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
from token_service.stores.sql.expressions import is_one_of, least
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_session, seal_session
from token_service.stores.sql.rows import (
    details_of,
    session_of,
    values_of,
    values_of_amendment,
    values_of_device,
    values_of_judged,
    values_of_last_use,
    values_of_proved,
    values_of_raise,
)
from token_service.stores.sql.schema import sessions, used_ids
from token_service.stores.sql.used_ids import digest_of, use_digest

_S: Final = sessions.c
_CREATE_ATTEMPTS: Final = 3
_AMEND: Final = session_statements.amend()
_RAISE: Final = session_statements.raise_context()
_RACE: Final = session_statements.race()


class SqlSessionStore:
    """The sessions. See `core.sessions.store.SessionStore`.

    `session_statements` explains why the statements decide every race correctly.
    """

    def __init__(self, database: Database, append_events: AppendEvents, personal: PersonalData) -> None:
        dialect = database.dialect
        self._database: Final = database
        self._personal: Final = personal
        self._append_events: Final = append_events
        self._insert: Final = Statement("insert_session", session_statements.insert_session(dialect), dialect)
        self._by_request: Final = Statement(
            "select_session_by_request", session_statements.select_by_request(), dialect
        )
        self._ended_client: Final = Statement(
            "select_ended_client", session_statements.select_ended_client(), dialect
        )
        self._by_id: Final = Statement("select_session", session_statements.select_by_id(), dialect)
        self._details: Final = Statement(
            "select_session_details", session_statements.select_details(), dialect
        )
        self._rotate: Final = Statement("rotate_session", session_statements.rotate(judged=False), dialect)
        self._rotate_judged: Final = Statement(
            "rotate_judged_session", session_statements.rotate(judged=True), dialect
        )
        self._retry: Final = Statement("retry_rotation", session_statements.retry(judged=False), dialect)
        self._retry_judged: Final = Statement(
            "retry_judged_rotation", session_statements.retry(judged=True), dialect
        )
        self._use: Final = Statement("use_session", session_statements.use(with_hash=False), dialect)
        self._use_with_hash: Final = Statement(
            "use_session_with_hash", session_statements.use(with_hash=True), dialect
        )
        self._use_judged: Final = Statement(
            "use_judged_session", session_statements.use(with_hash=True, judged=True), dialect
        )

    async def create(
        self, session: Session, request_hash: bytes | None, origin: Origin = NO_ORIGIN
    ) -> tuple[Session, bool]:
        """See `SessionStore.create`."""
        # No other transaction can lock a new row. Two batches can only wait for each other's request.
        order = (
            b"" if request_hash is None else session.client_id.encode(errors="replace") + b"\0" + request_hash
        )
        request = {"p_client_id": session.client_id, "p_request_hash": request_hash}
        keys = await self._personal.known()
        for _ in range(_CREATE_ATTEMPTS):
            values = values_of(session, request_hash, origin, keys)
            values["p_personal_revision"] = keys.revision
            row = await self._database.write_one(Call(self._insert, values, order))
            if row is not None:
                return session_of(row, keys), True
            row = await self._database.read_one(Call(self._by_request, request))
            if row is not None:
                return await self._personal.opened(partial(session_of, row)), False
            client = {"p_client_id": session.client_id}
            if await self._database.read_one(Call(self._ended_client, client)) is not None:
                raise ClientDisabledError
            # The state of the encryption is newer, or the row was purged, or the client enabled, between the statements.
            keys = await self._personal.refresh()
        raise unavailable()

    async def rotate(self, command: Rotation) -> Session | None:
        """See `SessionStore.rotate`."""
        judged = command.judged

        def parameters(keys: PersonalKeys) -> dict[str, Any]:
            return {
                "p_id": command.session_id,
                "p_client_id": command.client_id,
                **values_of_device(command.device_id, keys),
                **values_of_proved(command.proved),
                "p_generation": command.generation,
                "p_current_hash": command.current_hash,
                "p_next_hash": command.next_hash,
                "p_key_version": command.key_version,
                "p_now": to_micros(command.now),
                "p_idle_expire_time": to_micros(command.idle_expire_time),
                "p_personal_revision": keys.revision,
                **values_of_last_use(command.session_id, command.origin, keys),
                **({} if judged is None else values_of_judged(command.session_id, judged, keys)),
            }

        return await self._update(self._rotate if judged is None else self._rotate_judged, parameters)

    async def retry(self, command: Retry) -> Session | None:
        """See `SessionStore.retry`."""
        # The rotation that preceded this call has noticed a newer state of the encryption.
        parameters = {
            "p_id": command.session_id,
            "p_client_id": command.client_id,
            **values_of_device(command.device_id, await self._personal.known()),
            **values_of_proved(command.proved),
            "p_generation": command.generation,
            "p_previous_hash": command.previous_hash,
            "p_rotated_after": to_micros(command.rotated_after),
            "p_max_retries": command.max_retries,
            "p_now": to_micros(command.now),
        }
        if command.judged is None:
            return await self._change(self._retry, parameters)
        return await self._change(
            self._retry_judged, parameters | {"p_expected_tag": command.judged.expected_tag or None}
        )

    async def race(self, command: Race, events: Sequence[AuditEvent] = ()) -> bool:
        """See `SessionStore.race`."""
        parameters = {
            "p_id": command.session_id,
            "p_generation": command.generation,
            "p_max_races": command.max_races,
            "p_now": to_micros(command.now),
        }

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(_RACE, parameters)).first() is None:
                return False
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def use(self, command: Use) -> Session | None:
        """See `SessionStore.use`."""
        values: dict[str, Any] = {
            "p_id": command.session_id,
            "p_now": to_micros(command.now),
            "p_idle_expire_time": to_micros(command.idle_expire_time),
        }
        if command.refresh_hash is None:
            return await self._change(self._use, values)
        judged = command.judged

        def parameters(keys: PersonalKeys) -> dict[str, Any]:
            return {
                **values,
                "p_refresh_hash": command.refresh_hash,
                "p_personal_revision": keys.revision,
                **values_of_last_use(command.session_id, command.origin, keys),
                **({} if judged is None else values_of_judged(command.session_id, judged, keys)),
            }

        return await self._update(self._use_with_hash if judged is None else self._use_judged, parameters)

    async def amend(self, command: Amendment, events: Sequence[AuditEvent] = ()) -> Session | None:
        """See `SessionStore.amend`."""

        async def work(connection: AsyncConnection) -> Row | None:
            parameters = {**values_of_amendment(command), ITEM: 0}
            if command.custom_claims is not None:
                parameters |= await self._sealed_claims(connection, command.session_id, command.custom_claims)
            row = (await connection.execute(_AMEND, parameters)).first()
            if row is not None:
                await self._append_events(connection, events)
            return row

        return await self._session(await self._database.write(work))

    async def _sealed_claims(
        self, connection: AsyncConnection, session_id: UUID, claims: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the parameters that set the custom claims of an encrypted row; none for any other row.

        Locks the row, so that its other personal fields do not change meanwhile.
        """
        keys = await self._personal.current(connection)
        sealed = await connection.scalar(sa.select(_S.personal).where(_S.id == session_id).with_for_update())
        if sealed is None:
            return {}
        fields = open_session(keys, session_id, sealed)._replace(custom_claims=claims)
        return {
            "p_custom_claims": None,
            "p_personal": seal_session(keys.opening(), session_id, fields),
        }

    async def raise_context(
        self, command: Raise, events: Sequence[AuditEvent] = ()
    ) -> tuple[Session | None, bool]:
        """See `SessionStore.raise_context`."""
        parameters = {**values_of_raise(command), ITEM: 0}
        digest = digest_of(RAISES, command.grant_id)
        use = sa.delete(used_ids).where(used_ids.c.hash == digest)

        async def work(connection: AsyncConnection) -> tuple[Row | None, bool]:
            # The use comes first: calls with the same grant wait for each other here, before they read the row.
            if not await use_digest(connection, digest, command.expire_time, command.now):
                return None, False
            row = (await connection.execute(_RAISE, parameters)).first()
            if row is None:
                await connection.execute(use)
            else:
                await self._append_events(connection, events)
            return row, True

        row, is_first = await self._database.write(work)
        return await self._session(row), is_first

    async def get(self, session_id: UUID) -> Session | None:
        """See `SessionStore.get`."""
        return await self._session(await self._database.read_one(Call(self._by_id, {"p_id": session_id})))

    async def describe(self, session_id: UUID) -> SessionDetails | None:
        """See `SessionStore.describe`."""
        row = await self._database.read_one(Call(self._details, {"p_id": session_id}))
        return None if row is None else await self._personal.opened(lambda keys: details_of(row, keys))

    async def list(
        self,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        limit: int,
        after: SessionPosition | None,
        until: SessionPosition | None = None,
        personal: bool = False,
        client_id: str = "",
    ) -> Sequence[SessionDetails]:
        """See `SessionStore.list`."""
        statement = session_statements.details().limit(limit)
        if personal:
            statement = statement.where(_S.personal_hash.is_not(None))
        if client_id:
            statement = statement.where(_S.client_id == client_id)
        if live_at is not None:
            statement = statement.where(
                session_statements.live(sa.literal(to_micros(live_at), sa.BigInteger))
            )
        if until is not None:
            statement = statement.where(sa.tuple_(_S.create_time, _S.id) >= _place(until))

        async def select(connection: AsyncConnection) -> Sequence[Row]:
            keys = await self._personal.current(connection)
            return list(await connection.execute(_in_order(statement, by, value, after, keys)))

        rows = await self._database.read(select, snapshot=True)
        return await self._personal.opened(lambda keys: [details_of(row, keys) for row in rows])

    async def position(
        self, by: SessionFilter, value: str, *, after: SessionPosition | None, count: int
    ) -> SessionPosition | None:
        """See `SessionStore.position`. Reads only the index."""
        statement = sa.select(_S.create_time, _S.id).offset(count - 1).limit(1)

        async def select(connection: AsyncConnection) -> SessionPosition | None:
            keys = await self._personal.current(connection)
            row = (await connection.execute(_in_order(statement, by, value, after, keys))).first()
            return None if row is None else SessionPosition(to_seconds(row.create_time), row.id)

        return await self._database.read(select, snapshot=True)

    async def by_upstream(
        self, upstream: str, upstream_session: str, *, live_at: float, limit: int
    ) -> Sequence[UUID]:
        """See `SessionStore.by_upstream`."""
        statement = (
            sa.select(_S.id)
            .where(
                _S.upstream == upstream,
                session_statements.live(sa.literal(to_micros(live_at), sa.BigInteger)),
            )
            .order_by(_S.id)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> Sequence[UUID]:
            keys = await self._personal.current(connection)
            forms = keys.forms(Kind.UPSTREAM_SESSION, upstream_session)
            return list(
                (await connection.execute(statement.where(is_one_of(_S.upstream_session, forms)))).scalars()
            )

        return await self._database.read(select, snapshot=True)

    async def purge(self, before: float, limit: int, expired: Counter[str] | None = None) -> int:
        """See `SessionStore.purge`.

        Checks rows in the order of `purge_time`. An ended session is deleted. The `purge_time` of a live session
        becomes its current end. So each row is checked once per idle timeout, and no row is scanned twice.
        """
        deleted = 0
        while deleted < limit:
            seen, gone = await self._purge(to_micros(before), limit - deleted)
            deleted += len(gone)
            if expired is not None:
                expired.update(client_id for client_id in gone if client_id is not None)
            if not seen:
                break
        return deleted

    async def _purge(self, before: int, limit: int) -> tuple[int, Sequence[str | None]]:
        """Check rows; return how many, and for each deleted one its client, or None if it was revoked."""
        end = least(
            _S.idle_expire_time,
            _S.absolute_expire_time,
            sa.func.coalesce(_S.revoke_time, _S.absolute_expire_time),
        )
        due = (
            sa.select(
                _S.id,
                end < before,
                sa.case(
                    (
                        sa.and_(_S.revoke_time.is_(None), _S.revision >= session_statements.FLOOR),
                        _S.client_id,
                    )
                ),
            )
            .where(_S.purge_time < before)
            .order_by(_S.purge_time)
            .limit(limit)
            # A locked row is in use, so its session has not ended, or the next round deletes it. The statement
            # waits for no lock, so it can't deadlock.
            .with_for_update(skip_locked=True)
        )

        async def work(connection: AsyncConnection) -> tuple[int, Sequence[str | None]]:
            rows = (await connection.execute(due)).all()
            ended = [id_ for id_, over, _ in rows if over]
            others = [id_ for id_, over, _ in rows if not over]
            if ended:
                await connection.execute(sa.delete(sessions).where(_S.id.in_(ended)))
            if others:
                await connection.execute(sa.update(sessions).where(_S.id.in_(others)).values(purge_time=end))
            return len(rows), [client_id for _, over, client_id in rows if over]

        return await self._database.write(work)

    async def _change(self, statement: Statement, parameters: dict[str, Any]) -> Session | None:
        return await self._session(
            await self._database.write_one(Call(statement, parameters, parameters["p_id"].bytes))
        )

    async def _update(
        self, statement: Statement, parameters_of: Callable[[PersonalKeys], dict[str, Any]]
    ) -> Session | None:
        """Run a statement, once more if it found no row and the state of the encryption is newer than its parameters."""
        keys = await self._personal.known()
        changed = await self._change(statement, parameters_of(keys))
        if changed is None:
            newer = await self._personal.refresh()
            if newer.revision != keys.revision:
                return await self._change(statement, parameters_of(newer))
        return changed

    async def _session(self, row: Row | None) -> Session | None:
        if row is None:
            return None
        try:
            return session_of(row, self._personal.keys)
        except UnknownDataKeyError:
            return session_of(row, await self._personal.refresh())


def _in_order(
    statement: sa.Select[Any],
    by: SessionFilter,
    value: str,
    after: SessionPosition | None,
    keys: PersonalKeys,
) -> sa.Select[Any]:
    """Return the statement for the rows of an owner after a position, in the order of an index."""
    statement = statement.where(is_owned(by, value, keys)).order_by(_S.create_time.desc(), _S.id.desc())
    if by is SessionFilter.DEVICE:
        statement = statement.where(_S.device_id != sa.literal_column("''"))  # the condition of the index
    if after is not None:
        statement = statement.where(sa.tuple_(_S.create_time, _S.id) < _place(after))
    return statement


def is_owned(by: SessionFilter, value: str, keys: PersonalKeys) -> sa.ColumnElement[bool]:
    """Return the condition that a session has an owner."""
    kind = _KINDS.get(by)
    return is_one_of(_S[by.value], (value,) if kind is None else keys.forms(kind, value))


_KINDS: Final = {SessionFilter.SUBJECT: Kind.SUBJECT, SessionFilter.DEVICE: Kind.DEVICE}


def _place(position: SessionPosition) -> sa.Tuple:
    return sa.tuple_(
        sa.literal(to_micros(position.create_time), sa.BigInteger), sa.literal(position.session_id, sa.Uuid)
    )
