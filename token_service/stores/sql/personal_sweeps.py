"""Conversion of stored rows between plain and encrypted personal data, beside running nodes.

A sweep walks a table by its primary key and converts the rows of the other form in batches, each in a transaction of
its own. A converted row is not found again, so a sweep that was interrupted starts over and goes on where it was.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import PERSONAL, AuditRow
from token_service.core.personal_data.cipher import MARK, Kind, Place
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import (
    PersonalFields,
    open_audit_row,
    open_entry,
    open_origin,
    open_session,
    open_text,
    seal_audit_row,
    sealed_text,
)
from token_service.stores.sql.rows import origin_columns, plain_fields, sealed_entry, values_of_fields
from token_service.stores.sql.schema import (
    audit_events,
    device_requests,
    logout_deliveries,
    revocation_floors,
    revocations,
    sessions,
)
from token_service.tokens.revocation import RevocationTarget

BATCH: Final = 200
"""Rows of one transaction."""
_PAUSE: Final = 0.05
"""Seconds before rows that another transaction had locked are tried again."""
_MAX_SALT: Final = 32
_S: Final = sessions.c
_E: Final = audit_events.c
_R: Final = revocations.c
_F: Final = revocation_floors.c


def _is_marked(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return sa.func.substr(sa.func.coalesce(column, ""), 1, 1) == MARK


def _is_plain_origin(address: sa.Column[Any], agent: sa.Column[Any]) -> sa.ColumnElement[bool]:
    is_set = sa.or_(sa.func.coalesce(address, "") != "", sa.func.coalesce(agent, "") != "")
    return sa.and_(is_set, ~_is_marked(address))


class Sweep(ABC):
    """The conversion of one table."""

    table: ClassVar[sa.Table]

    @abstractmethod
    def is_other(self, keys: PersonalKeys) -> sa.ColumnElement[bool]:
        """Return the condition that a row is not in the form of new rows."""

    @abstractmethod
    async def convert(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]], keys: PersonalKeys
    ) -> None:
        """Convert locked rows."""

    async def update(self, connection: AsyncConnection, values: Sequence[dict[str, Any]]) -> None:
        """Update rows by their primary keys."""
        key = self.table.primary_key.columns
        names = [name for name in values[0] if name not in key]
        statement = (
            sa.update(self.table)
            .where(*(column == sa.bindparam(f"k_{column.name}", type_=column.type) for column in key))
            .values({name: sa.bindparam(f"v_{name}", type_=self.table.c[name].type) for name in names})
        )
        await connection.execute(
            statement,
            [
                {
                    **{f"k_{column.name}": row[column.name] for column in key},
                    **{f"v_{name}": row[name] for name in names},
                }
                for row in values
            ],
        )


class SessionSweep(Sweep):
    """Converts sessions, and copies the floors of their subjects to the new form in the same transaction."""

    table = sessions

    def is_other(self, keys: PersonalKeys) -> sa.ColumnElement[bool]:
        """See `Sweep.is_other`."""
        origins = ((_S.create_ip_address, _S.create_user_agent), (_S.last_ip_address, _S.last_user_agent))
        if keys.state.seals:
            is_judged = sa.and_(sa.func.coalesce(_S.origins, "") != "", ~_is_marked(_S.origins))
            is_plain = (_is_plain_origin(*each) for each in origins)
            return sa.or_(_S.personal.is_(None), is_judged, *is_plain)
        sealed = (_S.origins, *(address for address, _ in origins))
        return sa.or_(_S.personal.is_not(None), *map(_is_marked, sealed))

    async def convert(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]], keys: PersonalKeys
    ) -> None:
        """See `Sweep.convert`."""
        found = [(row, _fields_of(row, keys)) for row in rows]
        await _copy_floors(connection, {fields.subject for _, fields in found}, keys)
        await self.update(connection, [_session_values(row, fields, keys) for row, fields in found])


def _fields_of(row: sa.Row[Any], keys: PersonalKeys) -> PersonalFields:
    return plain_fields(row) if row.personal is None else open_session(keys, row.id, row.personal)


def _session_values(row: sa.Row[Any], fields: PersonalFields, keys: PersonalKeys) -> dict[str, Any]:
    values: dict[str, Any] = {"id": row.id, **values_of_fields(row.id, fields, keys)}
    values["origins"] = row.origins
    if row.origins:
        text = open_text(keys, Place.SESSION_ORIGINS, row.id.bytes, row.origins)
        values["origins"] = sealed_text(keys, Place.SESSION_ORIGINS, row.id.bytes, text)
    for place, name in ((Place.SESSION_CREATION, "create"), (Place.SESSION_LAST_USE, "last")):
        stored = (row._mapping[f"{name}_ip_address"], row._mapping[f"{name}_user_agent"])  # noqa: SLF001
        origin = open_origin(keys, place, row.id, *stored)
        pair: tuple[str | None, str | None] = stored
        if origin is not None:
            pair = origin_columns(place, row.id, origin, keys)
        values[f"{name}_ip_address"], values[f"{name}_user_agent"] = pair
    return values


async def _copy_floors(connection: AsyncConnection, subjects: set[str], keys: PersonalKeys) -> None:
    """Give the floors of subjects the form of new rows as well, unless a floor of this form is higher."""
    cipher = keys.opening()
    pairs = {subject: cipher.index(Kind.SUBJECT, subject) for subject in subjects}
    new_of = pairs if keys.state.seals else {index: subject for subject, index in pairs.items()}
    is_subject = _F.kind == number(RevocationTarget.SUBJECT)
    floors = (
        await connection.execute(
            sa.select(revocation_floors).where(is_subject, _F.target.in_(new_of)).order_by(_F.target)
        )
    ).mappings()
    copies = [{**floor, "target": new_of[floor["target"]]} for floor in floors]
    if not copies:
        return
    statement = insert(revocation_floors, connection.dialect)
    names = ("sequence", "raise_time", "reason", "reason_sequence")
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[_F.kind, _F.target],
            set_={name: statement.excluded[name] for name in names},
            where=statement.excluded.sequence > _F.sequence,
        ),
        sorted(copies, key=lambda floor: str(floor["target"])),
    )


class AuditSweep(Sweep):
    """Converts audit events. Their MACs cover only the commitment to the personal fields, so the chain stays valid."""

    table = audit_events

    def is_other(self, keys: PersonalKeys) -> sa.ColumnElement[bool]:
        """See `Sweep.is_other`."""
        length = sa.func.length(_E.salt)
        is_other = length <= _MAX_SALT if keys.state.seals else length > _MAX_SALT
        return sa.and_(_E.salt.is_not(None), is_other)

    async def convert(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]], keys: PersonalKeys
    ) -> None:
        """See `Sweep.convert`."""
        values = []
        for each in rows:
            row = open_audit_row(keys, AuditRow(**each._mapping))  # noqa: SLF001
            if keys.sealing is not None:
                row = structs.replace(row)
                seal_audit_row(keys.sealing, row)
            values.append({name: getattr(row, name) for name in ("chain_id", "position", "salt", *PERSONAL)})
        await self.update(connection, values)


class EntrySweep(Sweep):
    """Converts the entries of the revocation log."""

    table = revocations

    def is_other(self, keys: PersonalKeys) -> sa.ColumnElement[bool]:
        """See `Sweep.is_other`."""
        if not keys.state.seals:
            return _R.personal.is_not(None)
        is_subject = _R.target == number(RevocationTarget.SUBJECT)
        return sa.and_(_R.personal.is_(None), sa.or_(is_subject, _R.comment != ""))

    async def convert(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]], keys: PersonalKeys
    ) -> None:
        """See `Sweep.convert`."""
        values = []
        for row in rows:
            value, comment = row.value, row.comment
            if row.personal is not None:
                value, comment = open_entry(keys, row.sequence, row.personal)
            entry = {"sequence": row.sequence, "target": row.target, "value": value, "comment": comment}
            values.append(sealed_entry({**entry, "personal": None}, keys))
        await self.update(connection, values)


class TextSweep(Sweep):
    """Converts a column that holds a plain or a sealed text."""

    def __init__(self, column: sa.Column[Any], row: sa.Column[Any], place: Place) -> None:
        self.table = column.table  # type: ignore[misc]
        self._column: Final = column
        self._row: Final = row
        self._place: Final = place

    def is_other(self, keys: PersonalKeys) -> sa.ColumnElement[bool]:
        """See `Sweep.is_other`."""
        is_marked = _is_marked(self._column)
        return sa.and_(self._column.is_not(None), ~is_marked if keys.state.seals else is_marked)

    async def convert(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]], keys: PersonalKeys
    ) -> None:
        """See `Sweep.convert`."""
        values = []
        for row in rows:
            key, text = row._mapping[self._row.name], row._mapping[self._column.name]  # noqa: SLF001
            bound = key if isinstance(key, bytes) else key.bytes
            text = open_text(keys, self._place, bound, text)
            values.append(
                {
                    self._row.name: key,
                    self._column.name: sealed_text(keys, self._place, bound, text),
                }
            )
        await self.update(connection, values)


SWEEPS: Final[Sequence[Sweep]] = (
    SessionSweep(),
    AuditSweep(),
    EntrySweep(),
    TextSweep(device_requests.c.decision, device_requests.c.user_code_digest, Place.DEVICE_DECISION),
    TextSweep(logout_deliveries.c.subject, logout_deliveries.c.session_id, Place.LOGOUT_SUBJECT),
)


class PersonalDataSweeps:
    """Converts all tables."""

    def __init__(self, database: Database, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal

    async def remaining(self) -> dict[str, int]:
        """Return the number of rows of each table that are not in the form of new rows."""

        async def count(connection: AsyncConnection) -> dict[str, int]:
            keys = await self._personal.current(connection)
            found = {}
            for sweep in SWEEPS:
                rows = sa.select(sa.func.count()).select_from(sweep.table).where(sweep.is_other(keys))
                found[sweep.table.name] = (await connection.execute(rows)).scalar_one()
            return found

        return await self._database.read(count, snapshot=True)

    async def run(self, progress: Callable[[int], Awaitable[None]]) -> int:
        """Convert all rows of the other form; return their number.

        `progress` is awaited before each batch with the number until then.
        """
        done = 0
        for sweep in SWEEPS:
            while await self._finds(sweep):
                after: tuple[Any, ...] | None = None
                before = done
                while True:
                    await progress(done)
                    converted, after = await self._batch(sweep, after)
                    done += converted
                    if after is None:
                        break
                if done == before:
                    await asyncio.sleep(_PAUSE)
        return done

    async def drop_floors(self) -> int:
        """Delete the floors of subjects in the other form, after no session has it; return their number."""

        async def work(connection: AsyncConnection) -> int:
            keys = await self._personal.current(connection, shared=True)
            if keys.state.is_changing:
                return 0
            is_other = ~_is_marked(_F.target) if keys.state.seals else _is_marked(_F.target)
            is_subject = _F.kind == number(RevocationTarget.SUBJECT)
            return (
                await connection.execute(sa.delete(revocation_floors).where(is_subject, is_other))
            ).rowcount

        return await self._database.write(work)

    async def _finds(self, sweep: Sweep) -> bool:
        async def find(connection: AsyncConnection) -> bool:
            keys = await self._personal.current(connection)
            rows = sa.select(sa.literal(1)).select_from(sweep.table).where(sweep.is_other(keys)).limit(1)
            return await connection.scalar(rows) is not None

        return await self._database.read(find)

    async def _batch(self, sweep: Sweep, after: tuple[Any, ...] | None) -> tuple[int, tuple[Any, ...] | None]:
        """Convert the next rows after a key; return their number and the last key, or None at the end."""
        key = list(sweep.table.primary_key.columns)

        async def work(connection: AsyncConnection) -> tuple[int, tuple[Any, ...] | None]:
            keys = await self._personal.current(connection)
            rows = sa.select(sweep.table).where(sweep.is_other(keys)).order_by(*key).limit(BATCH)
            if after is not None:
                place = [sa.literal(value, column.type) for value, column in zip(after, key, strict=True)]
                rows = rows.where(sa.tuple_(*key) > sa.tuple_(*place))
            # A locked row is in use. It is found again by the next walk.
            found = (await connection.execute(rows.with_for_update(skip_locked=True))).all()
            if not found:
                return 0, None
            await sweep.convert(connection, found, keys)
            return len(found), tuple(found[-1]._mapping[column.name] for column in key)  # noqa: SLF001

        return await self._database.write(work)
