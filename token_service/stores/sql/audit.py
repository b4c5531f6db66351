"""The `AuditStore` on SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import PERSONAL, AuditKeys, AuditRow
from token_service.core.events.checkpoint import Checkpoint, Place, places_of, text_of
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditFilter, AuditPosition, ChainExtent, cursor_of
from token_service.core.personal_data.cipher import Kind
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.audit_chain import AuditChain, audit_row_of
from token_service.stores.sql.audit_entries import select_of_entries
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert, is_one_of
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.schema import audit_chains, audit_checkpoints, audit_events
from token_service.tokens.revocation import Revocation


class _OvertakenError(Exception):
    """Another node wrote a checkpoint meanwhile."""


_E: Final = audit_events.c
_C: Final = audit_chains.c
_P: Final = audit_checkpoints.c


class SqlAuditStore:
    """The audit trail. See `core.events.store.AuditStore`."""

    def __init__(self, database: Database, chain: AuditChain, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._chain: Final = chain

    @property
    def keys(self) -> AuditKeys:
        """See `AuditStore.keys`."""
        return self._chain.keys

    def announce_routine(self, announce: bool, /) -> None:  # noqa: FBT001 - what the method sets
        """See `AuditStore.announce_routine`."""
        self._chain.announces_routine = announce

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """See `AuditStore.append`."""
        await self._database.write(lambda connection: self._chain.append(connection, events))

    async def list(
        self, where: AuditFilter, *, limit: int, after: AuditPosition | None
    ) -> Sequence[AuditRow]:
        """See `AuditStore.list`. Filters without a subject, session or target read the rows by time."""
        statement = (
            sa.select(audit_events)
            .order_by(_E.time.desc(), _E.chain_id.desc(), _E.position.desc())
            .limit(limit)
        )
        if after is not None:
            place = sa.tuple_(
                sa.literal(after.time, sa.BigInteger),
                sa.literal(after.chain_id, sa.Text),
                sa.literal(after.position, sa.BigInteger),
            )
            statement = statement.where(sa.tuple_(_E.time, _E.chain_id, _E.position) < place)
        return await self._rows(lambda keys: statement.where(*_conditions(where, keys)))

    async def of_entries(self, epoch: str, entries: Sequence[Revocation]) -> Mapping[int, AuditRow]:
        """See `AuditStore.of_entries`."""
        if not entries:
            return {}
        wanted = {entry.sequence for entry in entries}
        places = {cursor_of(row): row for row in await self._rows(partial(select_of_entries, entries))}
        return {
            cursor.sequence: row
            for cursor, row in places.items()
            if cursor is not None and cursor.epoch == epoch and cursor.sequence in wanted
        }

    async def rows(self, chain_id: str, after: int, limit: int) -> Sequence[AuditRow]:
        """See `AuditStore.rows`."""
        statement = (
            sa.select(audit_events)
            .where(_E.chain_id == chain_id, _E.position > after)
            .order_by(_E.position)
            .limit(limit)
        )
        return await self._rows(lambda _: statement)

    async def extents(self, since: int, until: int) -> Sequence[ChainExtent]:
        """See `AuditStore.extents`. Reads only the index by time."""
        statement = (
            sa.select(_E.chain_id, sa.func.min(_E.position), sa.func.max(_E.position), sa.func.count())
            .where(_E.time >= since, _E.time < until)
            .group_by(_E.chain_id)
            .order_by(_E.chain_id)
        )

        async def select(connection: AsyncConnection) -> Sequence[ChainExtent]:
            return [ChainExtent(*row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def histogram(
        self, actions: Sequence[str], since: int, until: int, width: int
    ) -> Mapping[tuple[str, int], int]:
        """See `AuditStore.histogram`."""
        interval = (_E.time // sa.literal(width, sa.BigInteger)).label("interval")
        statement = (
            sa.select(_E.action, interval, sa.func.count())
            .where(_E.time >= since, _E.time < until, _E.action.in_(actions))
            .group_by(_E.action, interval)
        )

        async def select(connection: AsyncConnection) -> Mapping[tuple[str, int], int]:
            rows = await connection.execute(statement)
            return {(action, number): count for action, number, count in rows}

        return await self._database.read(select)

    async def chains(self) -> dict[str, Place]:
        """See `AuditStore.chains`."""

        async def select(connection: AsyncConnection) -> dict[str, Place]:
            return {row.chain_id: _place(row) for row in await connection.execute(sa.select(audit_chains))}

        return await self._database.read(select)

    async def chains_of_rows(self) -> Sequence[str]:
        """See `AuditStore.chains_of_rows`."""

        async def select(connection: AsyncConnection) -> Sequence[str]:
            return list((await connection.execute(sa.select(_E.chain_id).distinct())).scalars())

        return await self._database.read(select)

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        """See `AuditStore.checkpoints`."""
        statement = sa.select(audit_checkpoints).where(_P.number > after).order_by(_P.number).limit(limit)

        async def select(connection: AsyncConnection) -> Sequence[Checkpoint]:
            return [_checkpoint(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def checkpoint(self, now: float, *, full: bool = False) -> Checkpoint | None:
        """See `AuditStore.checkpoint`."""

        async def work(connection: AsyncConnection) -> Checkpoint | None:
            last = await _last_checkpoint(connection)
            if not (full or last is None):
                return await self._write_checkpoint(connection, now, last, {}, full=False)
            return await self._write_checkpoint(connection, now, last, await _cuts(connection), full=True)

        return await self._database.write(work)

    async def prune(self, before: float, checkpoints_before: float, now: float, limit: int) -> int:
        """See `AuditStore.prune`."""
        oldest, moment = to_micros(before), to_micros(checkpoints_before)

        async def work(connection: AsyncConnection) -> int:
            last = await _last_checkpoint(connection)
            cuts = dict(await _cuts(connection))
            deleted = 0
            # Locks the chains in the order of their ids, as a checkpoint does.
            aged = (
                sa.select(_C.chain_id)
                .where(sa.exists().where(_E.chain_id == _C.chain_id, _E.time < oldest))
                .order_by(_C.chain_id)
                .with_for_update()
            )
            for chain_id in list((await connection.execute(aged)).scalars()):
                if deleted >= limit:
                    break
                cut = await _cut(connection, chain_id, oldest, limit - deleted)
                if cut is None:
                    continue
                count, place, is_last = cut
                deleted += count
                cuts[chain_id] = place
                if is_last:
                    await connection.execute(sa.delete(audit_chains).where(_C.chain_id == chain_id))
                    del cuts[chain_id]
            if deleted and (
                await self._write_checkpoint(connection, now, last, cuts, full=True) is None
            ):  # another node wrote a checkpoint in between: no row may go without one
                raise _OvertakenError
            newest_full = (
                sa.select(sa.func.max(_P.number)).where(_P.full, _P.create_time < moment).scalar_subquery()
            )
            await connection.execute(sa.delete(audit_checkpoints).where(_P.number < newest_full))
            return deleted

        try:
            return await self._database.write(work)
        except _OvertakenError:
            return 0

    async def erase(self, actor: Actor, subject: str) -> int:
        """See `AuditStore.erase`."""

        async def work(connection: AsyncConnection) -> int:
            forms = (await self._personal.current(connection, shared=True)).forms(Kind.SUBJECT, subject)
            of_subject = sa.or_(_E.subject.in_(forms), _E.on_behalf_of.in_(forms))
            select_sessions = (
                sa.select(_E.session_id).where(_E.subject.in_(forms), _E.session_id != "").distinct()
            )
            # A statement of its own: SQLite may evaluate a subquery after the first row is erased.
            sessions = list((await connection.execute(select_sessions)).scalars())
            erased = await connection.execute(
                sa.update(audit_events)
                .where(sa.or_(of_subject, _E.session_id.in_(sessions)), _E.salt.is_not(None))
                .values(salt=None, **dict.fromkeys(PERSONAL, ""))
            )
            if erased.rowcount:
                event = AuditEvent(
                    action=Action.AUDIT_ERASED,
                    actor=actor,
                    target=Target("audit"),
                    fields={"rows": erased.rowcount},
                )
                await self._chain.append(connection, [event])
            return erased.rowcount

        return await self._database.write(work)

    async def _rows(self, statement_of: Callable[[PersonalKeys], sa.Select[Any]]) -> Sequence[AuditRow]:
        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            statement = statement_of(await self._personal.current(connection))
            return list(await connection.execute(statement))

        rows = await self._database.read(select, snapshot=True)
        return await self._personal.opened(lambda keys: [audit_row_of(row, keys) for row in rows])

    async def _write_checkpoint(
        self,
        connection: AsyncConnection,
        now: float,
        last: Checkpoint | None,
        cuts: Mapping[str, Place],
        *,
        full: bool,
    ) -> Checkpoint | None:
        moved = sa.select(audit_chains).where(_C.last_position > 0).order_by(_C.chain_id)
        if not full:
            moved = moved.where(_C.last_position != _C.checkpoint_position)
        heads = {row.chain_id: _place(row) for row in await connection.execute(moved)}
        if not heads and not full:
            return None
        unsigned = Checkpoint(
            number=1 if last is None else last.number + 1,
            create_time=to_micros(now),
            full=full,
            heads=heads,
            cuts=cuts,
            key_version=self.keys.version,
            previous_mac="" if last is None else last.mac,
        )
        signed = unsigned.signed(self.keys)
        assert signed is not None  # by the first key
        written = await connection.execute(
            insert(audit_checkpoints, connection.dialect)
            .values({**msgspec.to_builtins(signed), "heads": text_of(heads), "cuts": text_of(cuts)})
            .on_conflict_do_nothing()
        )
        if not written.rowcount:
            return None
        if heads:
            await connection.execute(
                sa.update(audit_chains)
                .where(_C.chain_id == sa.bindparam("p_chain_id", type_=sa.Text))
                .values(checkpoint_position=sa.bindparam("p_position", type_=sa.BigInteger)),
                [{"p_chain_id": chain_id, "p_position": place.position} for chain_id, place in heads.items()],
            )
        return signed


def _conditions(where: AuditFilter, keys: PersonalKeys) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (_E.actor_name, where.actor),
            (_E.session_id, where.session_id),
            (_E.client_id, where.client_id),
            (_E.target_kind, where.target_kind),
            (_E.target_id, where.target_id),
        )
        if value
    ]
    if where.subject:
        found.append(is_one_of(_E.subject, keys.forms(Kind.SUBJECT, where.subject)))
    # The conditions of the partial indexes.
    found += [
        column != sa.literal_column("''")
        for column, value in (
            (_E.subject, where.subject),
            (_E.session_id, where.session_id),
            (_E.target_id, where.target_id),
        )
        if value
    ]
    if where.actions:
        found.append(_E.action.in_(where.actions))
    if where.since is not None:
        found.append(_E.time >= to_micros(where.since))
    if where.until is not None:
        found.append(_E.time < to_micros(where.until))
    return found


async def _last_checkpoint(connection: AsyncConnection) -> Checkpoint | None:
    row = (await connection.execute(sa.select(audit_checkpoints).order_by(_P.number.desc()).limit(1))).first()
    return None if row is None else _checkpoint(row)


async def _cuts(connection: AsyncConnection) -> Mapping[str, Place]:
    """Return the cuts of the newest full checkpoint."""
    text = (
        await connection.execute(sa.select(_P.cuts).where(_P.full).order_by(_P.number.desc()).limit(1))
    ).scalar()
    return {} if text is None else places_of(text)


async def _cut(
    connection: AsyncConnection, chain_id: str, oldest: int, limit: int
) -> tuple[int, Place, bool] | None:
    """Delete the beginning of a chain up to its first row that is not older than `oldest`.

    Returns the number of deleted rows, the last of them, and whether it was the last row of the chain.
    """
    rows = (
        await connection.execute(
            sa.select(_E.position, _E.time, _E.mac)
            .where(_E.chain_id == chain_id)
            .order_by(_E.position)
            .limit(limit + 1)
        )
    ).all()
    gone = []
    for row in rows[:limit]:
        if row.time >= oldest:
            break
        gone.append(row)
    if not gone:
        return None
    await connection.execute(
        sa.delete(audit_events).where(_E.chain_id == chain_id, _E.position <= gone[-1].position)
    )
    return len(gone), Place(gone[-1].position, gone[-1].mac.hex()), len(gone) == len(rows)


def _place(row: sa.Row[Any]) -> Place:
    return Place(row.last_position, row.last_mac.hex())


def _checkpoint(row: sa.Row[Any]) -> Checkpoint:
    members = {**row._mapping, "full": bool(row.full)}  # noqa: SLF001 - the public name of the mapping in SQLAlchemy
    members["heads"], members["cuts"] = places_of(row.heads), places_of(row.cuts)
    return Checkpoint(**members)
