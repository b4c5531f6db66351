"""The `RevocationEntries` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.personal_data.cipher import Kind
from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.revocation.entries import MAX_ENTRIES_EXAMINED, EntryFilter, EntryPage, LogEntry
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.turns import Turns
from token_service.stores.sql.expressions import is_one_of, number
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_entry
from token_service.stores.sql.rows import REVOCATION_COLUMNS, revocation_of
from token_service.stores.sql.schema import log_head, revocation_floors, revocations
from token_service.tokens.revocation import RevocationReason, RevocationTarget

_R: Final = revocations.c
_F: Final = revocation_floors.c
_HEAD: Final = sa.select(log_head.c.epoch, log_head.c.sequence, log_head.c.compacted_sequence)


class SqlRevocationEntries:
    """Entries of the log, newest first. See `core.revocation.entries.RevocationEntries`.

    Each statement is a search in the primary key, over a range of at most `MAX_ENTRIES_EXAMINED` entries.
    """

    def __init__(self, database: Database, long_reads: Turns, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._long_reads: Final = long_reads

    async def page(self, where: EntryFilter, *, live_at: float, limit: int, below: int | None) -> EntryPage:
        """See `RevocationEntries.page`."""

        async def select(connection: AsyncConnection) -> EntryPage:
            keys = await self._personal.current(connection)
            epoch, head, compacted = (await connection.execute(_HEAD)).one()
            top = head + 1 if below is None else min(below, head + 1)
            examined = (
                sa.select(_R.sequence)
                .where(_R.sequence > compacted, _R.sequence < top)
                .order_by(_R.sequence.desc())
                .limit(MAX_ENTRIES_EXAMINED)
                .subquery()
            )
            lowest = await connection.scalar(sa.select(sa.func.min(examined.c.sequence)))
            if lowest is None:
                return EntryPage(epoch, (), None)
            statement = (
                sa.select(*REVOCATION_COLUMNS, _R.comment)
                .where(
                    _R.sequence >= lowest,
                    _R.sequence < top,
                    _R.expire_time > to_micros(live_at),
                    *_conditions(where, keys),
                )
                .order_by(_R.sequence.desc())
                .limit(limit)
            )
            entries = [_entry(row, keys) for row in (await connection.execute(statement)).all()]
            last = entries[-1].revocation.sequence if len(entries) == limit else lowest
            return EntryPage(epoch, entries, last if last > compacted + 1 else None)

        async with self._long_reads.turn():
            return await self._database.read(select, snapshot=True)

    async def has_floor(self, target: RevocationTarget, value: str) -> bool:
        """See `RevocationEntries.has_floor`."""
        statement = sa.select(_F.sequence).where(_F.kind == number(target)).limit(1)

        async def select(connection: AsyncConnection) -> bool:
            keys = await self._personal.current(connection)
            found = statement.where(is_one_of(_F.target, _forms(target, value, keys)))
            return await connection.scalar(found) is not None

        return await self._database.read(select, snapshot=True)


def _entry(row: Any, keys: PersonalKeys) -> LogEntry:
    entry, comment = revocation_of(row[:-1], keys), row.comment
    if row.personal is not None:
        _, comment = open_entry(keys, entry.sequence, row.personal)
    return LogEntry(entry, comment)


def _forms(target: RevocationTarget | None, value: str, keys: PersonalKeys) -> Sequence[str]:
    """Return the texts that the value of a target may have. Without a target it may be that of a subject."""
    if target is RevocationTarget.SUBJECT:
        return keys.forms(Kind.SUBJECT, value)
    return (value,) if target is not None else sorted({value, *keys.forms(Kind.SUBJECT, value)})


def _conditions(where: EntryFilter, keys: PersonalKeys) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if where.target is not None:
        found.append(_R.target == number(where.target))
    if where.value:
        found.append(is_one_of(_R.value, _forms(where.target, where.value, keys)))
    if where.reason is not RevocationReason.UNSPECIFIED:
        found.append(_R.reason == number(where.reason))
    return found
