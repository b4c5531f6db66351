"""The floors: one row for each revoked subject or client and one for everything, instead of one for each session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.revocation.log import FloorPosition
from token_service.stores.sql.engine.prepared import Prepared
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import revocation_floors, sessions
from token_service.tokens.revocation import RevocationTarget

FLOORS: Final = frozenset((RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING))
"""The targets of entries that raise a floor."""
_CLOCKS_APART: Final = 3600_000_000
"""Microseconds by which the creation time of a session below a floor may be later than the time of the floor."""


def floor_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the floor that an entry raises."""
    return {
        "kind": entry["target"],
        "target": entry["value"],
        "sequence": entry["sequence"],
        "raise_time": entry["revoke_time"],
        "reason": entry["reason"],
        "reason_sequence": entry["sequence"],
    }


def raise_floors(dialect: sa.Dialect) -> Prepared:
    """Return the statement that raises the floors of `floor_of`."""
    statement = insert(revocation_floors, dialect)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=[revocation_floors.c.kind, revocation_floors.c.target],
            set_={
                name: statement.excluded[name]
                for name in ("sequence", "raise_time", "reason", "reason_sequence")
            },
        ),
        dialect,
    )


async def purge_floors(
    connection: AsyncConnection, before: float, limit: int, after: FloorPosition | None
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
    rows = (await connection.execute(candidates)).all()
    gone = [(kind, target) for kind, target, needless in rows if needless]
    if gone:
        await connection.execute(sa.delete(revocation_floors).where(place.in_(gone)))
    return len(gone), (rows[-1][0], rows[-1][1]) if len(rows) == limit else None


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
