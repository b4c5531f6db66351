"""Appends to the chain of this process, within the transaction of the change that the events speak of."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.chain import SALT_BYTES, AuditKeys, AuditRow, mac_of, row_of
from token_service.core.events.event import AuditEvent, Category
from token_service.errors import ConfigurationError
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import audit_chains, audit_events, outbox
from token_service.telemetry.fields import without_tokens

AppendEvents: TypeAlias = Callable[[AsyncConnection, Sequence[AuditEvent]], Awaitable[None]]
"""Writes the rows of events in the transaction of a connection. Must be the last statements of the transaction."""

_encode: Final = msgspec.json.Encoder().encode
_chain: Final = audit_chains.c
_id: Final = sa.bindparam("p_chain_id", type_=sa.Text)
_LOCKED: Final = (
    sa.select(_chain.last_position, _chain.last_mac).where(_chain.chain_id == _id).with_for_update()
)
_ADVANCE: Final = (
    sa.update(audit_chains)
    .where(
        _chain.chain_id == _id,
        _chain.last_position == sa.bindparam("p_known_position", type_=sa.BigInteger),
        _chain.last_mac == sa.bindparam("p_known_mac", type_=sa.LargeBinary),
    )
    .values(
        last_position=sa.bindparam("p_position", type_=sa.BigInteger),
        last_mac=sa.bindparam("p_mac", type_=sa.LargeBinary),
        last_time=sa.bindparam("p_time", type_=sa.BigInteger),
    )
)


class AuditChain:
    """The chain of one process. The row of the chain is locked until the transaction ends.

    Transactions lock it last, so no cycle of locks exists, and commit order is the order of positions.
    """

    def __init__(self, keys: AuditKeys | None, chain_id: str) -> None:
        """`chain_id` must be unique to the process. Without keys every append fails."""
        self._keys: Final = keys
        self._chain_id: Final = chain_id
        self._known: tuple[int, bytes] | None = None
        """The end of the chain as this process wrote it last, committed or not."""

    @property
    def keys(self) -> AuditKeys:
        """The keys. Raises `ConfigurationError` without keys."""
        if self._keys is None:
            raise ConfigurationError("the audit trail can't be written: no audit key is configured")
        return self._keys

    async def append(self, connection: AsyncConnection, events: Sequence[AuditEvent]) -> None:
        """Write the rows of events, and the outbox rows of events that are not routine. See `AppendEvents`."""
        if not events:
            return
        now = to_micros(time.time())
        known, self._known = self._known, None  # none while another transaction is open
        if known is None or not (rows := await self._advance(connection, events, known, now)):
            # The transaction that wrote last is open or was rolled back, or this is the first one.
            known = await self._lock(connection, now)
            rows = await self._advance(connection, events, known, now)
            assert rows, "a locked row was changed"
        await connection.execute(sa.insert(audit_events), [values_of_row(row) for row in rows])
        announced = [
            {
                "type": row.action,
                "payload": _encode({"chain_id": row.chain_id, "position": row.position}).decode(),
                "create_time": now,
            }
            for row in rows
            if row.category != Category.ROUTINE.value
        ]
        if announced:
            await connection.execute(sa.insert(outbox), announced)
        self._known = rows[-1].position, rows[-1].mac

    async def _advance(
        self, connection: AsyncConnection, events: Sequence[AuditEvent], known: tuple[int, bytes], now: int
    ) -> Sequence[AuditRow]:
        """Lock the chain and note its new end; return the rows up to there.

        Changes nothing and returns no rows if `known` is not the end of the chain. That saves the round trip that
        would read the end.
        """
        keys = self.keys
        position, mac = known
        rows: list[AuditRow] = []
        for event in events:
            position += 1
            row = row_of(
                event,
                self._chain_id,
                position,
                now,
                secrets.token_bytes(SALT_BYTES),
                keys.version,
                clean=without_tokens,
            )
            chained = mac_of(row, mac, keys)
            assert chained is not None  # of the first key
            mac = chained
            rows.append(msgspec.structs.replace(row, mac=mac))
        moved = await connection.execute(
            _ADVANCE,
            {
                "p_chain_id": self._chain_id,
                "p_known_position": known[0],
                "p_known_mac": known[1],
                "p_position": position,
                "p_mac": mac,
                "p_time": now,
            },
        )
        return rows if moved.rowcount else ()

    async def _lock(self, connection: AsyncConnection, now: int) -> tuple[int, bytes]:
        """Lock the row of the chain, and return the position and the MAC of its last event."""
        row = (await connection.execute(_LOCKED, {"p_chain_id": self._chain_id})).first()
        if row is None:
            values = {
                "chain_id": self._chain_id,
                "last_position": 0,
                "last_mac": b"",
                "last_time": now,
                "checkpoint_position": 0,
            }
            await connection.execute(
                insert(audit_chains, connection.dialect).values(values).on_conflict_do_nothing()
            )
            row = (await connection.execute(_LOCKED, {"p_chain_id": self._chain_id})).one()
        return row.last_position, row.last_mac


def values_of_row(row: AuditRow) -> dict[str, Any]:
    """Return the columns of a row."""
    return {name: getattr(row, name) for name in AuditRow.__struct_fields__}


def audit_row_of(row: sa.Row[Any]) -> AuditRow:
    """Return the row of the columns of `audit_events`."""
    return AuditRow(**row._mapping)  # noqa: SLF001 - the public name of the mapping in SQLAlchemy
