"""The statements that append to a chain, for each database."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Category
from token_service.stores.sql.engine.prepared import Prepared
from token_service.stores.sql.personal_data import is_known_revision
from token_service.stores.sql.schema import audit_chains, audit_events, outbox

_encode: Final = msgspec.json.Encoder().encode
_COLUMNS: Final = AuditRow.__struct_fields__
_ADVANCE: Final = (
    sa.update(audit_chains)
    .where(
        audit_chains.c.chain_id == sa.bindparam("p_chain_id", type_=sa.Text),
        audit_chains.c.last_position == sa.bindparam("p_known_position", type_=sa.BigInteger),
        audit_chains.c.last_mac == sa.bindparam("p_known_mac", type_=sa.LargeBinary),
        is_known_revision(),
    )
    .values(
        last_position=sa.bindparam("p_position", type_=sa.BigInteger),
        last_mac=sa.bindparam("p_mac", type_=sa.LargeBinary),
        last_time=sa.bindparam("p_now", type_=sa.BigInteger),
    )
)


class End(NamedTuple):
    """The end of a chain."""

    position: int
    mac: bytes


class Append(Protocol):
    """Appends to a chain."""

    async def __call__(
        self,
        connection: AsyncConnection,
        known: End,
        rows: Sequence[AuditRow],
        now: int,
        *,
        routine: bool,
        revision: int,
    ) -> bool:
        """Lock the chain, note its new end, and insert the rows, and an outbox row for each row that is announced.

        Routine rows are announced only with `routine`.

        Changes nothing and returns False if `known` is not the end of the chain, or `revision` not that of the keys of
        personal data. So a caller that knows both need not read them, which saves round trips.
        """
        ...


def append_of(dialect: sa.Dialect) -> Append:
    """Return the way to append that is the fastest on a database."""
    return _EachItsOwn(dialect) if dialect.name == "sqlite" else _AllInOne(dialect)


class _EachItsOwn:
    """One statement for each table, because SQLite has no statement that changes several."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._advance: Final = Prepared(_ADVANCE, dialect)
        self._insert: Final = Prepared(_insert_of(audit_events, _COLUMNS), dialect)
        self._values: Final = attrgetter(*self._insert.names)
        self._announce: Final = Prepared(_insert_of(outbox, ("type", "payload", "create_time")), dialect)

    async def __call__(
        self,
        connection: AsyncConnection,
        known: End,
        rows: Sequence[AuditRow],
        now: int,
        *,
        routine: bool,
        revision: int,
    ) -> bool:
        if not await self._advance.run(connection, [_ends(known, rows[-1], now, revision)]):
            return False
        await self._insert.run_in_order(connection, [self._values(row) for row in rows])
        announced = [
            {"type": row.action, "payload": payload, "create_time": now}
            for row in rows
            if (payload := _payload(row, routine=routine)) is not None
        ]
        if announced:
            await self._announce.run(connection, announced)
        return True


class _AllInOne:
    """One statement for all tables, with the rows as arrays: one round trip instead of three."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._append: Final = Prepared(_all_in_one(), dialect)

    async def __call__(
        self,
        connection: AsyncConnection,
        known: End,
        rows: Sequence[AuditRow],
        now: int,
        *,
        routine: bool,
        revision: int,
    ) -> bool:
        arrays = zip(_COLUMNS, zip(*map(msgspec.structs.astuple, rows), strict=True), strict=True)
        parameters = {
            **_ends(known, rows[-1], now, revision),
            **{_array_of(name): values for name, values in arrays},
            _array_of("payload"): [_payload(row, routine=routine) for row in rows],
        }
        return await self._append.run(connection, [parameters]) > 0


def _all_in_one() -> sa.Insert:
    advanced = _ADVANCE.returning(audit_chains.c.chain_id).cte("advanced")
    columns = [column for column in audit_events.c if column.name != "chain_id"]
    names = [column.name for column in columns]
    rows = _unnest(columns)
    announced = _unnest([audit_events.c.position, audit_events.c.action, sa.column("payload", sa.Text)])
    # Joined, so that nothing is inserted without a row of `advanced`.
    announce = (
        sa.insert(outbox)
        .from_select(
            ["type", "payload", "create_time"],
            sa.select(announced.c.action, announced.c.payload, sa.bindparam("p_now", type_=sa.BigInteger))
            .select_from(announced.join(advanced, sa.true()))
            .where(announced.c.payload.is_not(None))
            .order_by(announced.c.position),
        )
        .cte("announced")
    )
    inserted = sa.select(advanced.c.chain_id, *(rows.c[name] for name in names))
    return (
        sa.insert(audit_events)
        .from_select(["chain_id", *names], inserted.select_from(rows.join(advanced, sa.true())))
        .add_cte(announce)
    )


def _unnest(columns: Sequence[sa.ColumnClause[Any]]) -> sa.TableValuedAlias:
    """Return a table whose columns are parameters: one array of values for each column."""
    arrays = [sa.bindparam(_array_of(column.name), type_=ARRAY(column.type)) for column in columns]
    return sa.func.unnest(*arrays).table_valued(*(column.name for column in columns)).render_derived()


def _array_of(name: str) -> str:
    return f"p_{name}_array"


def _insert_of(table: sa.Table, names: Sequence[str]) -> sa.Insert:
    return sa.insert(table).values({name: sa.bindparam(name, type_=table.c[name].type) for name in names})


def _ends(known: End, last: AuditRow, now: int, revision: int) -> dict[str, Any]:
    return {
        "p_chain_id": last.chain_id,
        "p_known_position": known.position,
        "p_known_mac": known.mac,
        "p_position": last.position,
        "p_mac": last.mac,
        "p_now": now,
        "p_personal_revision": revision,
    }


def _payload(row: AuditRow, *, routine: bool) -> str | None:
    """Return the payload of the outbox row of an event; None for one that is not announced."""
    if not routine and row.category == Category.ROUTINE.value:
        return None
    return _encode({"chain_id": row.chain_id, "position": row.position}).decode()
