"""The renewal and the compaction of the revocation log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.personal_data.keys import PersonalKeys
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.expressions import database_now, greatest, number
from token_service.stores.sql.log_append import at
from token_service.stores.sql.log_head import (
    COMPACTED,
    PERSONAL_REVISION,
    locked_head,
    locked_row,
    written_here,
)
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_entry
from token_service.stores.sql.revocation_floors import FLOORS, floors_of, raise_floors
from token_service.stores.sql.rows import head_of, sealed_entry, values_of_draft
from token_service.stores.sql.schema import event_head, log_head, revocations
from token_service.tokens.revocation import RevocationTarget

_KEYS: Final = (
    sa.select(revocations)
    .where(revocations.c.target == number(RevocationTarget.KEY), revocations.c.sequence > COMPACTED)
    .order_by(revocations.c.sequence)
)
"""The revocations of keys."""


class LogRenewal:
    """The transaction that restarts the log."""

    def __init__(self, dialect: sa.Dialect, append_events: AppendEvents, personal: PersonalData) -> None:
        self._append_events: Final = append_events
        self._personal: Final = personal
        self._raise_floors: Final = raise_floors(dialect)

    async def __call__(
        self,
        connection: AsyncConnection,
        draft: RevocationDraft,
        *,
        replaces: str,
        epoch: str,
        sequence: int,
        keep: bool,
    ) -> LogHead | None:
        """See `RevocationLog.renew`.

        Also works on another server than the one that wrote the log. `compact` deletes the entries below the new
        start later, because they may be many.
        """
        locked = await locked_row(connection)
        head = head_of(locked)
        keys = await self._personal.at(locked[PERSONAL_REVISION], connection)
        if head.epoch != replaces or head.sequence >= sequence:
            return None
        entries = [values_of_draft(draft, sequence, head.read_time)]
        if not keep:
            entries += [
                {**_opened(row, keys), "sequence": sequence + place}
                for place, row in enumerate((await connection.execute(_KEYS)).mappings(), 1)
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
            policies_revision=head.policies_revision,
        )
        await connection.execute(sa.insert(revocations), [sealed_entry(entry, keys) for entry in entries])
        await connection.execute(
            sa.update(log_head).values(
                epoch=after.epoch,
                sequence=after.sequence,
                compacted_sequence=after.compacted,
                newest_time=newest,
                newest_sequence=after.sequence,
                awaited_sequence=0,
                **written_here(number(after.sequence)),
            )
        )
        # A number that a reader saw before the failover must not name another event.
        await connection.execute(
            sa.update(event_head).values(sequence=greatest(event_head.c.sequence, database_now()))
        )
        if draft.target in FLOORS:
            await self._raise_floors.run(connection, floors_of(entries[0], keys))
        if draft.event is not None:
            await self._append_events(connection, [at(draft.event, epoch, sequence)])
        return after


def _opened(row: Mapping[Any, Any], keys: PersonalKeys) -> dict[str, Any]:
    """Return the columns of an entry, decrypted."""
    if row["personal"] is None:
        return {**row}
    value, comment = open_entry(keys, row["sequence"], row["personal"])
    return {**row, "value": value, "comment": comment, "personal": None}


async def compact(connection: AsyncConnection, now: float, limit: int) -> int:
    """See `RevocationLog.compact`."""
    moment = to_micros(now)
    oldest = (
        sa.select(revocations.c.sequence, revocations.c.expire_time)
        .order_by(revocations.c.sequence)
        .limit(limit)
    )
    head = await locked_head(connection)
    last, count = 0, 0
    for sequence, expire_time in await connection.execute(oldest):
        # Entries up to `compacted` are left over from a renewal.
        if expire_time >= moment and sequence > head.compacted:
            break
        last, count = sequence, count + 1
    if count:
        await connection.execute(sa.delete(revocations).where(revocations.c.sequence <= last))
    if last > head.compacted:
        await connection.execute(sa.update(log_head).values(compacted_sequence=last))
    # Updated here too, because a standby may be added or removed while no entry is appended.
    written = written_here(number(head.sequence))
    place = written["replicated_sequence"]
    await connection.execute(
        sa.update(log_head).where(log_head.c.replicated_sequence.is_distinct_from(place)).values(**written)
    )
    return count
