"""The `SessionSelections` on SQL."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.sessions.selection import (
    MAX_SESSIONS_COUNTED,
    MAX_SESSIONS_EXAMINED,
    TOP_CLIENTS,
    Accuracy,
    SelectionPart,
    SessionReach,
    SessionSelection,
)
from token_service.core.sessions.store import SessionFilter, SessionPosition
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.turns import Turns
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.schema import sessions
from token_service.stores.sql.session_statements import live
from token_service.stores.sql.sessions import is_owned

_S: Final = sessions.c
_MATCHES: Final = "matches"


class SqlSessionSelections:
    """Counts and walks selections of sessions. See `core.sessions.selection.SessionSelections`.

    A walk goes down an index: by (create_time, id) of a subject, a device or a client, otherwise by id. A statement
    examines a bounded number of index entries, whatever the other conditions are. No update changes a column of these
    indexes, so no session moves during a walk.
    """

    def __init__(self, database: Database, long_reads: Turns, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._long_reads: Final = long_reads

    async def part(
        self, selection: SessionSelection, *, live_at: float, limit: int, after: SessionPosition | None
    ) -> SelectionPart:
        """See `SessionSelections.part`."""

        async def select(connection: AsyncConnection) -> SelectionPart:
            keys = await self._personal.current(connection)
            walk = _walk(selection, live_at, (_S.id, _S.create_time), MAX_SESSIONS_EXAMINED, keys)
            if after is not None:
                walk = walk.where(_is_after(selection, after))
            found = []
            for count, (id_, create_time, matches) in enumerate(await connection.execute(walk), 1):
                if matches:
                    found.append(id_)
                if len(found) == limit or count == MAX_SESSIONS_EXAMINED:
                    return SelectionPart(found, SessionPosition(create_time / 1_000_000, id_))
            return SelectionPart(found, None)

        return await self._database.read(select, snapshot=True)

    async def reach(
        self, selection: SessionSelection, *, live_at: float, sample: int | None = None
    ) -> SessionReach:
        """See `SessionSelections.reach`."""
        has_owner = _has_owner(selection)

        async def select(connection: AsyncConnection) -> SessionReach:
            await _use_indexes(connection)
            keys = await self._personal.current(connection)
            stored = 0 if has_owner else await _rows(connection)
            limit = MAX_SESSIONS_COUNTED
            if sample is not None and stored > MAX_SESSIONS_COUNTED:
                limit = sample
            rows = (await connection.execute(_count(selection, live_at, limit, keys))).all()
            ((_, count, looked_at, subjects, clients, oldest, last),) = (
                each for each in rows if each.examined is not None
            )
            best = [(each.client_id, each.sessions) for each in rows if each.examined is None]
            number, accuracy = count, Accuracy.EXACT
            if looked_at > limit:
                accuracy = Accuracy.AT_LEAST
                if stored > looked_at:  # ids are random, so the examined sessions are a random sample
                    number, accuracy = round(count / looked_at * stored), Accuracy.ESTIMATE
            return SessionReach(
                sessions=number,
                accuracy=accuracy,
                subjects=subjects,
                clients=clients,
                top_clients=sorted(best, key=lambda pair: (-pair[1], pair[0])),
                oldest_create_time=to_seconds(oldest),
                last_expire_time=to_seconds(last),
            )

        async with self._long_reads.turn():
            return await self._database.read(select, snapshot=True)


def _count(selection: SessionSelection, live_at: float, limit: int, keys: PersonalKeys) -> sa.Executable:
    """Return the statement for the totals of a selection, in one row, and its largest clients, in the others.

    It examines the rows once for both. The order of its rows is not defined.
    """
    columns = (_S.subject, _S.client_id, _S.create_time, _S.absolute_expire_time)
    examined = _walk(selection, live_at, columns, limit + 1, keys).cte("examined")
    row, matches = examined.c, examined.c[_MATCHES] == 1

    def of_matching(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.case((matches, column))

    totals = sa.select(
        sa.literal_column("''", sa.Text).label("client_id"),
        sa.func.count(of_matching(sa.literal(1))).label("sessions"),
        sa.func.count().label("examined"),
        sa.func.count(sa.distinct(of_matching(row.subject))).label("subjects"),
        sa.func.count(sa.distinct(of_matching(row.client_id))).label("clients"),
        sa.func.min(of_matching(row.create_time)).label("oldest"),
        sa.func.max(of_matching(row.absolute_expire_time)).label("last"),
    ).select_from(examined)
    top = (
        sa.select(
            row.client_id,
            sa.func.count().label("sessions"),
            *(sa.cast(sa.null(), sa.BigInteger) for _ in range(5)),
        )
        .where(matches)
        .group_by(row.client_id)
        .order_by(sa.desc("sessions"), row.client_id)
        .limit(TOP_CLIENTS)
        .subquery()
    )
    return totals.union_all(sa.select(top))


async def _use_indexes(connection: AsyncConnection) -> None:
    """Let this transaction walk indexes.

    For the 50,001 newest of a client's sessions PostgreSQL would read all of them and sort them, a million if there are
    as many, because it supposes that each row of an index costs a read of the disk.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(
            sa.text(
                "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
            )
        )


def _has_owner(selection: SessionSelection) -> bool:
    """Tell whether a condition with an index by (create_time, id) is set."""
    return bool(selection.subject or selection.device_id or selection.client_id)


def _owner(selection: SessionSelection, keys: PersonalKeys) -> sa.ColumnElement[bool] | None:
    """Return the condition with an index by (create_time, id); None: no such condition is set."""
    if selection.subject:
        return is_owned(SessionFilter.SUBJECT, selection.subject, keys)
    if selection.device_id:
        is_device = is_owned(SessionFilter.DEVICE, selection.device_id, keys)
        return sa.and_(is_device, _S.device_id != sa.literal_column("''"))
    if selection.client_id:
        return is_owned(SessionFilter.CLIENT, selection.client_id, keys)
    return None


def _walk(
    selection: SessionSelection,
    live_at: float,
    columns: tuple[sa.Column[Any], ...],
    limit: int,
    keys: PersonalKeys,
) -> sa.Select[Any]:
    """Return the statement for the next `limit` rows of a walk, each with whether it is selected."""
    owner = _owner(selection, keys)
    times: list[sa.ColumnElement[bool]] = []
    if selection.created_after is not None:
        times.append(_S.create_time >= to_micros(selection.created_after))
    if selection.created_before is not None:
        times.append(_S.create_time < to_micros(selection.created_before))
    conditions = [
        is_owned(by, value, keys)
        for by, value in (
            (SessionFilter.DEVICE, selection.device_id),
            (SessionFilter.CLIENT, selection.client_id),
        )
        if value
    ]
    if selection.upstream:
        conditions.append(_S.upstream == selection.upstream)
    if selection.last_used_before is not None:
        conditions.append(_S.last_use_time < to_micros(selection.last_used_before))
    conditions.append(live(sa.literal(to_micros(live_at), sa.BigInteger)))
    if owner is None:
        matches = sa.case((sa.and_(*times, *conditions), 1), else_=0).label(_MATCHES)
        return sa.select(*columns, matches).order_by(_S.id.desc()).limit(limit)
    matches = sa.case((sa.and_(*conditions), 1), else_=0).label(_MATCHES)
    return (
        sa.select(*columns, matches)
        .where(owner, *times)
        .order_by(_S.create_time.desc(), _S.id.desc())
        .limit(limit)
    )


def _is_after(selection: SessionSelection, after: SessionPosition) -> sa.ColumnElement[bool]:
    session_id = sa.literal(after.session_id, sa.Uuid)
    if not _has_owner(selection):
        return _S.id < session_id
    create_time = sa.literal(to_micros(after.create_time), sa.BigInteger)
    return sa.tuple_(_S.create_time, _S.id) < sa.tuple_(create_time, session_id)


async def _rows(connection: AsyncConnection) -> int:
    """Return about how many rows the table has, without counting them; 0 or less: unknown."""
    if connection.dialect.name == "sqlite":
        return await connection.scalar(sa.text("SELECT max(rowid) FROM sessions")) or 0
    statement = sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = 'sessions'::regclass")
    return await connection.scalar(statement) or 0
