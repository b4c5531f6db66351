"""The `EventStreamStore` on SQL."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.event_streams.stream import (
    Backlog,
    DeliveryMethod,
    EventStream,
    StreamStatus,
    WaitingEvent,
)
from token_service.core.events.event import AuditEvent
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import database_now, insert, number
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.rows import DAMAGED
from token_service.stores.sql.schema import (
    event_consumers,
    event_head,
    event_streams,
    removed_subjects,
    waiting_events,
)

_S: Final = event_streams.c
_W: Final = waiting_events.c
_R: Final = removed_subjects.c
_C: Final = event_consumers.c
_HEAD: Final = sa.select(event_head.c.sequence).where(event_head.c.id == number(1))
_MAX_ATTEMPTS: Final = 10

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(tuple[str, ...]).decode

logger = logging.getLogger(__name__)


class SqlEventStreamStore:
    """Event streams. See `core.event_streams.store.EventStreamStore`."""

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events
        self._damaged: Final[set[tuple[str, int]]] = set()
        """The damaged rows that the log has named, by id and revision: they are read every second."""

    async def create(self, stream: EventStream, limit: int, events: Sequence[AuditEvent]) -> bool:
        """See `EventStreamStore.create`."""
        add = insert(event_streams, self._database.dialect).on_conflict_do_nothing()

        async def work(connection: AsyncConnection) -> bool:
            for _ in range(_MAX_ATTEMPTS):
                slots = set(
                    (
                        await connection.execute(sa.select(_S.slot).where(_S.client_id == stream.client_id))
                    ).scalars()
                )
                free = next((slot for slot in range(limit) if slot not in slots), None)
                if free is None:
                    return False
                values = {"client_id": stream.client_id, "slot": free, **_values(stream)}
                # A concurrent call may have taken the slot.
                if (await connection.execute(add.values(values))).rowcount:
                    await self._restart(connection, stream)
                    await self._append_events(connection, events)
                    return True
            return False

        return await self._database.write(work)

    async def get(self, stream_id: str) -> EventStream | None:
        """See `EventStreamStore.get`."""
        found = await self._select(sa.select(event_streams).where(_S.stream_id == stream_id))
        return found[0] if found else None

    async def list(self, client_id: str = "") -> Sequence[EventStream]:
        """See `EventStreamStore.list`."""
        statement = sa.select(event_streams).order_by(_S.create_time, _S.stream_id)
        return await self._select(statement.where(_S.client_id == client_id) if client_id else statement)

    async def save(
        self,
        stream: EventStream,
        events: Sequence[AuditEvent],
        *,
        waiting: Sequence[WaitingEvent] = (),
        drop: bool = False,
        restart: bool = False,
    ) -> bool:
        """See `EventStreamStore.save`."""
        change = (
            sa.update(event_streams)
            .where(_S.stream_id == stream.stream_id, _S.revision == stream.revision - 1)
            .values(_values(stream))
        )

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(change)).rowcount:
                return False
            if drop or restart:
                await connection.execute(sa.delete(waiting_events).where(_W.stream_id == stream.stream_id))
                await self._restart(connection, stream)
            await self._add(connection, stream.stream_id, waiting)
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def delete(self, stream_id: str, events: Sequence[AuditEvent]) -> bool:
        """See `EventStreamStore.delete`."""

        async def work(connection: AsyncConnection) -> bool:
            deleted = await connection.execute(sa.delete(event_streams).where(_S.stream_id == stream_id))
            if not deleted.rowcount:
                return False
            await connection.execute(sa.delete(waiting_events).where(_W.stream_id == stream_id))
            await connection.execute(sa.delete(removed_subjects).where(_R.stream_id == stream_id))
            await connection.execute(sa.delete(event_consumers).where(_C.name == f"ssf:{stream_id}"))
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def verify(self, stream_id: str, event: WaitingEvent, not_after: float) -> bool:
        """See `EventStreamStore.verify`."""
        note = (
            sa.update(event_streams)
            .where(
                _S.stream_id == stream_id,
                sa.or_(_S.verify_time.is_(None), _S.verify_time <= to_micros(not_after)),
            )
            .values(verify_time=to_micros(event.create_time))
        )

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(note)).rowcount:
                return False
            await self._add(connection, stream_id, [event])
            return True

        return await self._database.write(work)

    async def remove_subject(self, stream_id: str, fingerprint: str, limit: int) -> bool:
        """See `EventStreamStore.remove_subject`."""
        known = sa.select(_R.fingerprint).where(_R.stream_id == stream_id, _R.fingerprint == fingerprint)
        count = sa.select(sa.func.count()).where(_R.stream_id == stream_id)
        add = (
            insert(removed_subjects, self._database.dialect)
            .values(stream_id=stream_id, fingerprint=fingerprint)
            .on_conflict_do_nothing()
        )

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(known)).first() is not None:
                return True
            if (await connection.execute(count)).scalar_one() >= limit:
                return False
            await connection.execute(add)
            return True

        return await self._database.write(work)

    async def add_subject(self, stream_id: str, fingerprint: str) -> None:
        """See `EventStreamStore.add_subject`."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                sa.delete(removed_subjects).where(_R.stream_id == stream_id, _R.fingerprint == fingerprint)
            )

        await self._database.write(work)

    async def removed_among(self, stream_id: str, fingerprints: Collection[str]) -> bool:
        """See `EventStreamStore.removed_among`."""
        statement = sa.select(_R.fingerprint).where(
            _R.stream_id == stream_id, _R.fingerprint.in_(fingerprints)
        )

        async def select(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement.limit(1))).first() is not None

        return await self._database.read(select)

    async def enqueue(
        self, stream: EventStream, known: int, through: int, waiting: Sequence[WaitingEvent]
    ) -> bool:
        """See `EventStreamStore.enqueue`."""
        move = (
            sa.update(event_consumers)
            .where(_C.name == stream.consumer, _C.sequence == known)
            .values(sequence=through, update_time=database_now())
        )

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(move)).rowcount:
                return False
            await self._add(connection, stream.stream_id, waiting)
            return True

        return await self._database.write(work)

    async def waiting(
        self, stream_id: str, limit: int, event_types: Collection[str] = ()
    ) -> Sequence[WaitingEvent]:
        """See `EventStreamStore.waiting`."""
        statement = sa.select(waiting_events).where(_W.stream_id == stream_id).order_by(_W.id).limit(limit)
        if event_types:
            statement = statement.where(_W.event_type.in_(event_types))

        async def select(connection: AsyncConnection) -> Sequence[WaitingEvent]:
            return [
                WaitingEvent(
                    token_id=row.token_id,
                    event_type=row.event_type,
                    chain_id=row.chain_id,
                    position=row.position,
                    detail=row.detail,
                    create_time=to_seconds(row.create_time),
                )
                for row in await connection.execute(statement)
            ]

        return await self._database.read(select)

    async def count_waiting(self, stream_id: str) -> int:
        """See `EventStreamStore.count_waiting`."""
        statement = sa.select(sa.func.count()).where(_W.stream_id == stream_id)

        async def select(connection: AsyncConnection) -> int:
            return int((await connection.execute(statement)).scalar_one())

        return await self._database.read(select)

    async def streams_waiting(self) -> Collection[str]:
        """See `EventStreamStore.streams_waiting`."""

        async def select(connection: AsyncConnection) -> Collection[str]:
            return set((await connection.execute(sa.select(_W.stream_id).distinct())).scalars())

        return await self._database.read(select)

    async def finish(self, stream_id: str, token_ids: Collection[str]) -> int:
        """See `EventStreamStore.finish`."""
        statement = sa.delete(waiting_events).where(_W.stream_id == stream_id, _W.token_id.in_(token_ids))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work)

    async def backlog(self) -> Backlog:
        """See `EventStreamStore.backlog`."""
        statement = (
            sa.select(sa.func.count(), sa.func.min(_W.create_time))
            .select_from(waiting_events)
            .join(event_streams, _S.stream_id == _W.stream_id)
            .where(_S.status == StreamStatus.ENABLED.value)
        )

        async def select(connection: AsyncConnection) -> Backlog:
            count, oldest = (await connection.execute(statement)).one()
            return Backlog(count, to_seconds(oldest))

        return await self._database.read(select)

    async def _restart(self, connection: AsyncConnection, stream: EventStream) -> None:
        """Set the place of a stream to the end of the log."""
        statement = insert(event_consumers, connection.dialect).values(
            name=stream.consumer, sequence=_HEAD.scalar_subquery(), update_time=database_now()
        )
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=[_C.name],
                set_={
                    "sequence": statement.excluded.sequence,
                    "update_time": statement.excluded.update_time,
                },
            )
        )

    async def _add(
        self, connection: AsyncConnection, stream_id: str, waiting: Sequence[WaitingEvent]
    ) -> None:
        if waiting:
            await connection.execute(
                insert(waiting_events, connection.dialect).on_conflict_do_nothing(),
                [
                    {
                        "stream_id": stream_id,
                        "token_id": each.token_id,
                        "event_type": each.event_type,
                        "chain_id": each.chain_id,
                        "position": each.position,
                        "detail": each.detail,
                        "create_time": to_micros(each.create_time),
                    }
                    for each in waiting
                ],
            )

    async def _select(self, statement: sa.Select[Any]) -> Sequence[EventStream]:
        async def select(connection: AsyncConnection) -> Sequence[EventStream]:
            return [self._stream(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    def _stream(self, row: sa.Row[Any]) -> EventStream:
        try:
            return _stream(row, DeliveryMethod(row.method), StreamStatus(row.status), row.reason)
        except (ValueError, msgspec.MsgspecError):
            # One damaged row must neither stop the other streams nor send what its receiver has not asked for.
            if (place := (row.stream_id, row.revision)) not in self._damaged:
                self._damaged.add(place)
                logger.exception(
                    "event stream %s of client %s is treated as disabled, because its row in the database can't be read: "
                    "restore the row, or delete the stream",
                    row.stream_id,
                    row.client_id,
                )
            return _stream(row, DeliveryMethod.POLL, StreamStatus.DISABLED, DAMAGED, types=())


def _values(stream: EventStream) -> dict[str, Any]:
    """Return the columns of a stream, except its client and slot."""
    return {
        "stream_id": stream.stream_id,
        "method": stream.method.value,
        "endpoint_url": stream.endpoint_url,
        "push_authorization": stream.authorization,
        "wrapping_key_id": stream.wrapping_key_id,
        "events_requested": _encode(stream.events_requested).decode(),
        "description": stream.description,
        "status": stream.status.value,
        "reason": stream.reason,
        "create_time": to_micros(stream.create_time),
        "revision": stream.revision,
    }


def _stream(
    row: sa.Row[Any],
    method: DeliveryMethod,
    status: StreamStatus,
    reason: str,
    types: tuple[str, ...] | None = None,
) -> EventStream:
    return EventStream(
        stream_id=row.stream_id,
        client_id=row.client_id,
        method=method,
        endpoint_url=row.endpoint_url,
        authorization=row.push_authorization,
        wrapping_key_id=row.wrapping_key_id,
        events_requested=_decode(row.events_requested) if types is None else types,
        description=row.description,
        status=status,
        reason=reason,
        create_time=to_seconds(row.create_time),
        revision=row.revision,
    )
