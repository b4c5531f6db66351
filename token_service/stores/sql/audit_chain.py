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
from token_service.core.events.event import AuditEvent
from token_service.core.personal_data.keys import PersonalKeys
from token_service.errors import ConfigurationError
from token_service.stores.sql.audit_statements import End, append_of
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_audit_row, seal_audit_row
from token_service.stores.sql.schema import audit_chains, audit_events
from token_service.telemetry.fields import without_tokens

AppendEvents: TypeAlias = Callable[[AsyncConnection, Sequence[AuditEvent]], Awaitable[None]]
"""Writes the rows of events in the transaction of a connection. Must be the last statements of the transaction."""

_chain: Final = audit_chains.c
_COLUMNS: Final = tuple(column.name for column in audit_events.c)
_LOCKED: Final = (
    sa.select(_chain.last_position, _chain.last_mac)
    .where(_chain.chain_id == sa.bindparam("p_chain_id", type_=sa.Text))
    .with_for_update()
)


class AuditChain:
    """The chain of one process. The row of the chain is locked until the transaction ends.

    Transactions lock it last, so no cycle of locks exists, and commit order is the order of positions.
    """

    def __init__(
        self, keys: AuditKeys | None, chain_id: str, dialect: sa.Dialect, personal: PersonalData
    ) -> None:
        """`chain_id` must be unique to the process. Without keys every append fails."""
        self._keys: Final = keys
        self._personal: Final = personal
        self._chain_id: Final = chain_id
        self._append: Final = append_of(dialect)
        self._known: End | None = None
        """The end of the chain as this process wrote it last, committed or not."""
        self.announces_routine = False
        """Whether routine events get a row in the outbox too."""

    @property
    def keys(self) -> AuditKeys:
        """The keys. Raises `ConfigurationError` without keys."""
        if self._keys is None:
            raise ConfigurationError("the audit trail can't be written: no audit key is configured")
        return self._keys

    async def append(self, connection: AsyncConnection, events: Sequence[AuditEvent]) -> None:
        """Write the rows of events, and outbox rows of the announced events. See `AppendEvents`."""
        if not events:
            return
        now = to_micros(time.time())
        known, self._known = self._known, None  # none while another transaction is open
        rows: Sequence[AuditRow] = ()
        if known is not None:
            rows, is_written = await self._append_after(connection, events, known, now, self._personal.keys)
            known = known if is_written else None
        while known is None:
            # The transaction that wrote last is open or was rolled back, or this is the first one, or the state of the
            # encryption is newer. The head of the log is not locked: other transactions lock it before their rows.
            personal = await self._personal.current(connection)
            known = await self._lock(connection, now)
            rows, is_written = await self._append_after(connection, events, known, now, personal)
            known = known if is_written else None
        self._known = End(rows[-1].position, rows[-1].mac)

    async def _append_after(
        self,
        connection: AsyncConnection,
        events: Sequence[AuditEvent],
        known: End,
        now: int,
        personal: PersonalKeys,
    ) -> tuple[Sequence[AuditRow], bool]:
        """Append events after an end; return their rows, and whether they were written."""
        rows = self._rows(events, known, now, personal)
        is_written = await self._append(
            connection, known, rows, now, routine=self.announces_routine, revision=personal.revision
        )
        return rows, is_written

    def _rows(
        self, events: Sequence[AuditEvent], known: End, now: int, personal: PersonalKeys
    ) -> Sequence[AuditRow]:
        """Return the rows of events after the end of a chain."""
        keys, cipher = self.keys, personal.sealing
        salts = secrets.token_bytes(SALT_BYTES * len(events))
        position, mac = known
        rows: list[AuditRow] = []
        for index, event in enumerate(events):
            position += 1
            salt = salts[index * SALT_BYTES : (index + 1) * SALT_BYTES]
            row = row_of(event, self._chain_id, position, now, salt, keys.version, clean=without_tokens)
            chained = mac_of(row, mac, keys)
            assert chained is not None  # of the first key
            mac = chained
            msgspec.structs.force_setattr(row, "mac", mac)  # a copy would cost as much as the row
            if cipher is not None:
                seal_audit_row(cipher, row)
            rows.append(row)
        return rows

    async def _lock(self, connection: AsyncConnection, now: int) -> End:
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
        return End(row.last_position, row.last_mac)


def audit_row_of(row: sa.Row[Any], keys: PersonalKeys) -> AuditRow:
    """Return the row of all columns of `audit_events`, in their order, decrypted. Raises `UnknownDataKeyError`."""
    # A fifth of the time of `**row._mapping`, which counts when a report reads a million rows.
    return open_audit_row(keys, AuditRow(**dict(zip(_COLUMNS, row, strict=True))))
