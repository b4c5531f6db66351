"""The `AuditStore` on SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import PERSONAL, AuditKeys, AuditRow
from token_service.core.events.checkpoint import Checkpoint, Place, places_of, text_of
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditFilter, AuditPosition
from token_service.stores.sql.audit_chain import AuditChain, audit_row_of
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import audit_chains, audit_checkpoints, audit_events, outbox


class _OvertakenError(Exception):
    """Another node wrote a checkpoint meanwhile."""


_E: Final = audit_events.c
_C: Final = audit_chains.c
_P: Final = audit_checkpoints.c


class SqlAuditStore:
    """The audit trail. See `core.events.store.AuditStore`."""

    def __init__(self, database: Database, chain: AuditChain) -> None:
        self._database: Final = database
        self._chain: Final = chain

    @property
    def keys(self) -> AuditKeys:
        """See `AuditStore.keys`."""
        return self._chain.keys

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """See `AuditStore.append`."""
        await self._database.write(lambda connection: self._chain.append(connection, events))

    async def list(
        self, where: AuditFilter, *, limit: int, after: AuditPosition | None
    ) -> Sequence[AuditRow]:
        """See `AuditStore.list`. Filters without a subject, session or target read the rows by time."""
        statement = (
            sa.select(audit_events)
            .where(*_conditions(where))
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
        return await self._rows(statement)

    async def rows(self, chain_id: str, after: int, limit: int) -> Sequence[AuditRow]:
        """See `AuditStore.rows`."""
        return await self._rows(
            sa.select(audit_events)
            .where(_E.chain_id == chain_id, _E.position > after)
            .order_by(_E.position)
            .limit(limit)
        )

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
        of_subject = sa.or_(_E.subject == subject, _E.on_behalf_of == subject)
        select_sessions = (
            sa.select(_E.session_id).where(_E.subject == subject, _E.session_id != "").distinct()
        )

        async def work(connection: AsyncConnection) -> int:
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

    async def purge_outbox(self, before: float, limit: int) -> int:
        """See `AuditStore.purge_outbox`."""
        oldest = (
            sa.select(outbox.c.id)
            .where(outbox.c.create_time < to_micros(before))
            .order_by(outbox.c.create_time)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> int:
            ids = list((await connection.execute(oldest)).scalars())
            if ids:
                await connection.execute(sa.delete(outbox).where(outbox.c.id.in_(ids)))
            return len(ids)

        return await self._database.write(work)

    async def _rows(self, statement: sa.Select[Any]) -> Sequence[AuditRow]:
        async def select(connection: AsyncConnection) -> Sequence[AuditRow]:
            return [audit_row_of(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

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


def _conditions(where: AuditFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (_E.actor_name, where.actor),
            (_E.subject, where.subject),
            (_E.session_id, where.session_id),
            (_E.client_id, where.client_id),
            (_E.target_kind, where.target_kind),
            (_E.target_id, where.target_id),
        )
        if value
    ]
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
