"""The `EventLog` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import AuditRow
from token_service.core.events.log import EventHead, StoredEvent
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import database_now, insert, number
from token_service.stores.sql.log_head import HEAD, require_same_server
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_audit_row
from token_service.stores.sql.rows import head_of
from token_service.stores.sql.schema import (
    audit_events,
    event_consumers,
    event_head,
    events,
    outbox,
)

_E: Final = events.c
_C: Final = event_consumers.c
_ONLY_ROW: Final = event_head.c.id == number(1)
_HEAD: Final = sa.select(
    event_head.c.epoch,
    event_head.c.sequence,
    event_head.c.purged_sequence,
    sa.exists(sa.select(outbox.c.id)),
).where(_ONLY_ROW)
_OLDEST: Final = sa.select(database_now() - sa.func.min(outbox.c.create_time))
_LOCKED: Final = (
    sa.select(event_head.c.sequence, event_head.c.purged_sequence).where(_ONLY_ROW).with_for_update()
)
_ROW: Final = tuple(audit_events.c[name] for name in AuditRow.__struct_fields__)
_READ: Final = (
    sa.select(_E.sequence, _E.chain_id, _E.position, _E.type, *_ROW)
    .select_from(
        events.outerjoin(
            audit_events,
            sa.and_(audit_events.c.chain_id == _E.chain_id, audit_events.c.position == _E.position),
        )
    )
    .order_by(_E.sequence)
)


class _Payload(msgspec.Struct):
    """The place of an event in the audit trail."""

    chain_id: str
    position: int


_decode: Final = msgspec.json.Decoder(_Payload).decode


class SqlEventLog:
    """The event log. See `core.events.log.EventLog`."""

    def __init__(self, database: Database, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal

    async def head(self) -> EventHead:
        """See `EventLog.head`."""

        async def select(connection: AsyncConnection) -> EventHead:
            epoch, sequence, purged, waiting = (await connection.execute(_HEAD)).one()
            return EventHead(epoch, sequence, purged, waiting=bool(waiting))

        return await self._database.read(select)

    async def sequence(self, limit: int) -> int:
        """See `EventLog.sequence`."""
        waiting = (
            sa.select(outbox.c.id, outbox.c.type, outbox.c.payload, outbox.c.create_time)
            .order_by(outbox.c.id)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> int:
            row = tuple((await connection.execute(HEAD)).one())
            require_same_server(row, head_of(row))
            # The rows are read by a statement of its own, after the lock: it sees what the last holder left.
            last = (await connection.execute(_LOCKED)).one().sequence
            rows = (await connection.execute(waiting)).all()
            if not rows:
                return 0
            places = [_decode(row.payload) for row in rows]
            await connection.execute(
                sa.insert(events),
                [
                    {
                        "sequence": last + number_,
                        "chain_id": place.chain_id,
                        "position": place.position,
                        "type": row.type,
                        "create_time": row.create_time,
                    }
                    for number_, (row, place) in enumerate(zip(rows, places, strict=True), 1)
                ],
            )
            await connection.execute(sa.delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
            await connection.execute(sa.update(event_head).where(_ONLY_ROW).values(sequence=last + len(rows)))
            return len(rows)

        return await self._database.write(work)

    async def waiting(self) -> float:
        """See `EventLog.waiting`."""

        async def select(connection: AsyncConnection) -> float:
            age: int | None = (await connection.execute(_OLDEST)).scalar()
            return 0.0 if age is None else max(0.0, to_seconds(age))

        return await self._database.read(select)

    async def read(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """See `EventLog.read`."""
        statement = _READ.where(_E.sequence > after).limit(limit)

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return list(await connection.execute(statement))

        rows = await self._database.read(select)
        return await self._personal.opened(lambda keys: [_event(row, keys) for row in rows])

    async def before(self, time: float) -> int:
        """See `EventLog.before`."""
        # Searched from the end of the log: a replay reads the events after the place anyway.
        statement = (
            sa.select(_E.sequence)
            .where(_E.create_time < to_micros(time))
            .order_by(_E.sequence.desc())
            .limit(1)
        )

        async def select(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).scalar() or 0

        return await self._database.read(select)

    async def purge(self, before: float, limit: int) -> int:
        """See `EventLog.purge`."""
        oldest = sa.select(_E.sequence, _E.create_time).order_by(_E.sequence).limit(limit)
        moment = to_micros(before)

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(_LOCKED)
            rows = (await connection.execute(oldest)).all()
            old = [row.sequence for row in takewhile(lambda row: row.create_time < moment, rows)]
            if old:
                await connection.execute(sa.delete(events).where(_E.sequence <= old[-1]))
                await connection.execute(
                    sa.update(event_head).where(_ONLY_ROW).values(purged_sequence=old[-1])
                )
            return len(old)

        return await self._database.write(work)

    async def position(self, consumer: str) -> int | None:
        """See `EventLog.position`."""

        async def select(connection: AsyncConnection) -> int | None:
            statement = sa.select(_C.sequence).where(_C.name == consumer)
            return (await connection.execute(statement)).scalar_one_or_none()

        return await self._database.read(select)

    async def positions(self) -> dict[str, int]:
        """See `EventLog.positions`."""

        async def select(connection: AsyncConnection) -> dict[str, int]:
            return {row.name: row.sequence for row in await connection.execute(sa.select(event_consumers))}

        return await self._database.read(select)

    async def start(self, consumer: str, sequence: int) -> int:
        """See `EventLog.start`."""
        statement = (
            insert(event_consumers, self._database.dialect)
            .values(name=consumer, sequence=sequence, update_time=database_now())
            .on_conflict_do_nothing()
        )

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(statement)
            found = await connection.execute(sa.select(_C.sequence).where(_C.name == consumer))
            return int(found.scalar_one())

        return await self._database.write(work)

    async def advance(self, consumer: str, known: int, sequence: int) -> bool:
        """See `EventLog.advance`."""
        statement = (
            sa.update(event_consumers)
            .where(_C.name == consumer, _C.sequence == known)
            .values(sequence=sequence, update_time=database_now())
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).rowcount == 1

        return await self._database.write(work)

    async def forget(self, consumer: str) -> None:
        """See `EventLog.forget`."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(event_consumers).where(_C.name == consumer))

        await self._database.write(work)


def _event(row: sa.Row[Any], keys: PersonalKeys) -> StoredEvent:
    sequence, chain_id, position, type_, *columns = tuple(row)
    if columns[0] is None:
        return StoredEvent(sequence, chain_id, position, type_, None)
    stored = AuditRow(**dict(zip(AuditRow.__struct_fields__, columns, strict=True)))
    return StoredEvent(sequence, chain_id, position, type_, open_audit_row(keys, stored))
