"""The `RevocationLog` on SQL."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.core.keys.store import SigningKeyState
from token_service.core.revocation.log import FloorPosition, LogHead, LogMovedError, RevocationDraft
from token_service.errors import TokenServiceError
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.clients import end_clients
from token_service.stores.sql.engine.database import MAX_QUEUE, Database
from token_service.stores.sql.engine.errors import StatementRefusedError, unavailable
from token_service.stores.sql.engine.group_commit import GroupCommitter
from token_service.stores.sql.engine.lane import EVIDENCE, Call, Row, Statement
from token_service.stores.sql.expressions import (
    authoritative,
    database_now,
    greatest,
    insert,
    least,
    number,
    replicated,
    server_identity,
)
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.rows import REVOCATION_COLUMNS, head_of, revocation_of, values_of_draft
from token_service.stores.sql.schema import log_head, revocation_floors, revocations, sessions, signing_keys
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

_MAX_BATCH: Final = 64
_CLOCKS_APART: Final = 3600_000_000
"""Microseconds by which the creation time of a session below a floor may be later than the time of the floor."""
_FLOORS: Final = frozenset((RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING))

_Appended = tuple[LogHead, Sequence[Revocation]]

_HEAD: Final = sa.select(
    log_head.c.epoch,
    log_head.c.sequence,
    log_head.c.compacted_sequence,
    log_head.c.key_revision,
    sa.case((log_head.c.newest_sequence == log_head.c.sequence, log_head.c.newest_time)),
    log_head.c.awaited_sequence,
    database_now(),
    log_head.c.client_revision,
    log_head.c.server,
    server_identity(),
    sa.func.coalesce(log_head.c.replicated_sequence == log_head.c.sequence, sa.false()),
).where(log_head.c.id == number(1))
_SERVER: Final = slice(8, 11)
"""The last three columns of `_HEAD`."""

_COMPACTED: Final = (
    sa.select(log_head.c.compacted_sequence).where(log_head.c.id == number(1)).scalar_subquery()
)


class SqlRevocationLog:
    """The revocation log. See `core.revocation.log.RevocationLog`.

    An append first locks the one row of `log_head`, then numbers its entries and commits while it holds the lock. So
    entry n + 1 is never committed before entry n, and every number has an entry, because drafts are skipped before
    the numbers are assigned.
    """

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events
        self._head: Final = Statement(_HEAD.add_columns(authoritative().label(EVIDENCE)), database.dialect)
        self._raise_floor: Final = _raise_floor(database.dialect)
        self._appends: Final[GroupCommitter[Sequence[RevocationDraft], _Appended]] = GroupCommitter(
            [self._flush], max_batch=_MAX_BATCH, max_queue=MAX_QUEUE
        )

    def open(self) -> None:
        """Start the task that appends entries."""
        self._appends.open()

    async def aclose(self) -> None:
        """Append the queued drafts and end the task."""
        await self._appends.aclose()

    async def append(self, drafts: Sequence[RevocationDraft]) -> _Appended:
        """See `RevocationLog.append`."""
        if not drafts:
            return await self.head(), []
        return await self._appends(drafts)

    async def head(self) -> LogHead:
        """See `RevocationLog.head`. Concurrent calls share one read."""
        row = await self._database.read_one(Call(self._head, {}))
        if row is None:
            raise unavailable()  # the table was emptied by hand
        head = head_of(row)
        try:
            _require_same_server(row, head)
        except LogMovedError:
            self._database.suspend()
            raise
        self._database.resume()
        return head

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """See `RevocationLog.read`."""
        statement = (
            sa.select(*REVOCATION_COLUMNS)
            # One bound only: with two, SQLite may search by the lower one and read all entries up to the other.
            .where(revocations.c.sequence > greatest(sa.literal(after, sa.BigInteger), _COMPACTED))
            .order_by(revocations.c.sequence)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> Sequence[Revocation]:
            return [revocation_of(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """See `RevocationLog.renew`.

        Also works on another server than the one that wrote the log. `compact` deletes the entries below the new
        start later, because they may be many.
        """
        keys = (
            sa.select(revocations)
            .where(revocations.c.target == number(RevocationTarget.KEY), revocations.c.sequence > _COMPACTED)
            .order_by(revocations.c.sequence)
        )

        async def work(connection: AsyncConnection) -> LogHead | None:
            head = head_of(await _locked_row(connection))
            if head.epoch != replaces or head.sequence >= sequence:
                return None
            entries = [values_of_draft(draft, sequence, head.read_time)]
            if not keep:
                entries += [
                    {**row, "sequence": sequence + place}
                    for place, row in enumerate((await connection.execute(keys)).mappings(), 1)
                ]
            newest = entries[-1]["revoke_time"]
            compacted = head.compacted if keep else sequence - 1
            last = sequence + len(entries) - 1
            after = LogHead(
                epoch,
                last,
                compacted,
                head.key_revision,
                to_seconds(newest),
                client_revision=head.client_revision,
            )
            await connection.execute(sa.insert(revocations), entries)
            await connection.execute(
                sa.update(log_head).values(
                    epoch=after.epoch,
                    sequence=after.sequence,
                    compacted_sequence=after.compacted,
                    newest_time=newest,
                    newest_sequence=after.sequence,
                    awaited_sequence=0,
                    **_written_here(after.sequence),
                )
            )
            if draft.target in _FLOORS:
                await connection.execute(self._raise_floor, [_floor_of(entries[0])])
            if draft.event is not None:
                await self._append_events(connection, [_at(draft.event, epoch, sequence)])
            return after

        renewed = await self._database.write(work)
        self._database.resume()
        return renewed

    async def compact(self, now: float, limit: int) -> int:
        """See `RevocationLog.compact`."""
        moment = to_micros(now)
        oldest = (
            sa.select(revocations.c.sequence, revocations.c.expire_time)
            .order_by(revocations.c.sequence)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> int:
            head = await _locked_head(connection)
            last, count = 0, 0
            for sequence, expire_time in await connection.execute(oldest):
                if (
                    expire_time >= moment and sequence > head.compacted
                ):  # entries up to `compacted` are left over from a renewal
                    break
                last, count = sequence, count + 1
            if count:
                await connection.execute(sa.delete(revocations).where(revocations.c.sequence <= last))
            if last > head.compacted:
                await connection.execute(sa.update(log_head).values(compacted_sequence=last))
            # Updated here too, because a standby may be added or removed while no entry is appended.
            written = _written_here(head.sequence)
            place = written["replicated_sequence"]
            await connection.execute(
                sa.update(log_head)
                .where(log_head.c.replicated_sequence.is_distinct_from(place))
                .values(**written)
            )
            return count

        return await self._database.write(work)

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """See `RevocationLog.purge_floors`."""
        floors = revocation_floors.c
        place = sa.tuple_(floors.kind, floors.target)
        candidates = (
            sa.select(floors.kind, floors.target, _is_needless(to_micros(before)))
            .where(floors.kind != number(RevocationTarget.EVERYTHING))
            .order_by(floors.kind, floors.target)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if after is not None:
            candidates = candidates.where(place > sa.tuple_(*after, types=[sa.SmallInteger, sa.Text]))

        async def work(connection: AsyncConnection) -> tuple[int, FloorPosition | None]:
            rows = (await connection.execute(candidates)).all()
            gone = [(kind, target) for kind, target, needless in rows if needless]
            if gone:
                await connection.execute(sa.delete(revocation_floors).where(place.in_(gone)))
            return len(gone), (rows[-1][0], rows[-1][1]) if len(rows) == limit else None

        return await self._database.write(work)

    async def _flush(self, batch: Sequence[Sequence[RevocationDraft]]) -> Sequence[_Appended | Exception]:
        try:
            return await self._database.write(lambda connection: self._append(connection, batch))
        except StatementRefusedError as error:
            if len(batch) == 1:
                return [error]
        except TokenServiceError as error:
            return [error] * len(batch)
        # One refused append rolled back the whole batch: run each append alone.
        return [result for drafts in batch for result in await self._flush([drafts])]

    async def _append(
        self, connection: AsyncConnection, batch: Sequence[Sequence[RevocationDraft]]
    ) -> Sequence[_Appended]:
        head = await _locked_head(connection)
        drafts = [draft for drafts in batch for draft in drafts]
        conditional = {RevocationTarget.SESSION, RevocationTarget.KEY}
        kept = {position for position, draft in enumerate(drafts) if draft.target not in conditional}
        kept |= await _revoke_sessions(connection, drafts)
        revoked_keys = await _revoke_keys(connection, drafts)
        ended_clients, refused = await end_clients(connection, drafts, head.client_revision)
        kept = (kept | revoked_keys) - refused

        sequence, newest, awaited = head.sequence, head.newest, head.awaited
        entries: list[dict[str, Any]] = []
        floors: list[dict[str, Any]] = []
        events: list[AuditEvent] = []
        appended: list[tuple[float | None, list[Revocation]]] = []
        position = itertools.count()
        for item in batch:
            mine: list[Revocation] = []
            follows = newest
            for draft in item:
                if next(position) not in kept:
                    continue
                sequence += 1
                if draft.awaited:
                    awaited = sequence
                values = values_of_draft(draft, sequence, head.read_time)
                entries.append(values)
                mine.append(revocation_of([values[column.name] for column in REVOCATION_COLUMNS]))
                if draft.target in _FLOORS:
                    floors.append(_floor_of(values))
                if draft.event is not None:
                    events.append(_at(draft.event, head.epoch, sequence))
            if mine:
                newest = mine[-1].revoke_time
            appended.append((follows, mine))

        key_revision = head.key_revision + len(revoked_keys)
        client_revision = head.client_revision + ended_clients
        if entries:
            await connection.execute(sa.insert(revocations), entries)
            await connection.execute(
                sa.update(log_head).values(
                    sequence=sequence,
                    key_revision=key_revision,
                    client_revision=client_revision,
                    newest_time=entries[-1]["revoke_time"],
                    newest_sequence=sequence,
                    awaited_sequence=awaited,
                    **_written_here(sequence),
                )
            )
        if floors:
            await connection.execute(self._raise_floor, floors)
        await self._append_events(connection, events)
        after = LogHead(
            head.epoch,
            sequence,
            head.compacted,
            key_revision,
            newest,
            awaited=awaited,
            client_revision=client_revision,
        )
        return [(replace(after, follows=follows), mine) for follows, mine in appended]


async def _locked_row(connection: AsyncConnection) -> Row:
    return tuple((await connection.execute(_HEAD.with_for_update())).one())


async def _locked_head(connection: AsyncConnection) -> LogHead:
    """Lock the head and return it. Raises `LogMovedError`."""
    row = await _locked_row(connection)
    head = head_of(row)
    _require_same_server(row, head)
    return head


def _require_same_server(row: Row, head: LogHead) -> None:
    written_on, server, replicated_there = row[_SERVER]
    if written_on is not None and server is not None and written_on != server:
        raise LogMovedError(head, nothing_lost=bool(replicated_there))


def _at(event: AuditEvent, epoch: str, sequence: int) -> AuditEvent:
    """Return the event of an entry with the cursor of the entry."""
    return structs.replace(event, fields={**event.fields, "cursor": str(Cursor(epoch, sequence))})


def _written_here(sequence: int) -> dict[str, Any]:
    """Return the columns of the head for a log that this server writes up to `sequence`."""
    return {
        "server": server_identity(),
        "replicated_sequence": sa.case((replicated(), number(sequence))),
    }


def _is_needless(before: int) -> sa.ColumnElement[bool]:
    """Return the condition that a floor was raised before a time and revokes no session."""
    floors, rows = revocation_floors.c, sessions.c

    def is_above_none_of(column: sa.Column[str]) -> sa.ColumnElement[bool]:
        of_target = sa.exists().where(column == floors.target).correlate(revocation_floors)
        return sa.case(
            # The index finds this row at once, even with many younger sessions.
            (of_target.where(rows.create_time < floors.raise_time + number(_CLOCKS_APART)), sa.false()),
            # Only then each session is checked.
            else_=~of_target.where(rows.revision < floors.sequence),
        )

    return sa.case(
        (floors.raise_time >= before, sa.false()),
        (floors.kind == number(RevocationTarget.SUBJECT), is_above_none_of(rows.subject)),
        else_=is_above_none_of(rows.client_id),
    )


def _floor_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the floor that an entry raises."""
    return {
        "kind": entry["target"],
        "target": entry["value"],
        "sequence": entry["sequence"],
        "raise_time": entry["revoke_time"],
        "reason": entry["reason"],
        "reason_sequence": entry["sequence"],
    }


async def _revoke_sessions(connection: AsyncConnection, drafts: Sequence[RevocationDraft]) -> set[int]:
    """Mark sessions as revoked, and return the positions of the drafts whose session was not yet revoked.

    Locks the rows in the order of their ids.
    """
    wanted: dict[UUID, int] = {}
    for position, draft in enumerate(drafts):
        if draft.target is RevocationTarget.SESSION:
            session_id = _uuid(draft.value)
            if session_id is not None:
                wanted.setdefault(session_id, position)
    if not wanted:
        return set()
    alive = (
        sa.select(sessions.c.id)
        .where(sessions.c.id.in_(wanted), sessions.c.revoke_time.is_(None))
        .order_by(sessions.c.id)
        .with_for_update()
    )
    found = list((await connection.execute(alive)).scalars())
    if found:
        revoke_time = sa.bindparam("p_revoke_time", type_=sa.BigInteger)
        await connection.execute(
            sa.update(sessions)
            .where(sessions.c.id == sa.bindparam("p_id", type_=sa.Uuid))
            .values(
                revoke_time=revoke_time,
                revoke_reason=sa.bindparam("p_reason", type_=sa.SmallInteger),
                purge_time=least(sessions.c.purge_time, revoke_time),
            ),
            [
                {
                    "p_id": session_id,
                    "p_revoke_time": to_micros(draft.revoke_time),
                    "p_reason": int(draft.reason),
                }
                for session_id in found
                for draft in (drafts[wanted[session_id]],)
            ],
        )
    return {wanted[session_id] for session_id in found}


async def _revoke_keys(connection: AsyncConnection, drafts: Sequence[RevocationDraft]) -> set[int]:
    """Revoke signing keys, and return the positions of the drafts whose key exists and was not yet revoked.

    The locked head prevents other changes of the keys.
    """
    revoked: set[int] = set()
    for position, draft in enumerate(drafts):
        if draft.target is RevocationTarget.KEY:
            result = await connection.execute(
                sa.update(signing_keys)
                .where(
                    signing_keys.c.key_id == draft.value,
                    signing_keys.c.state != SigningKeyState.REVOKED.value,
                )
                .values(state=SigningKeyState.REVOKED.value, revoke_time=to_micros(draft.revoke_time))
            )
            if result.rowcount:
                revoked.add(position)
    return revoked


def _raise_floor(dialect: sa.Dialect) -> Any:
    statement = insert(revocation_floors, dialect)
    return statement.on_conflict_do_update(
        index_elements=[revocation_floors.c.kind, revocation_floors.c.target],
        set_={
            name: statement.excluded[name] for name in ("sequence", "raise_time", "reason", "reason_sequence")
        },
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
