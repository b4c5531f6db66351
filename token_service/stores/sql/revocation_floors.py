"""The floors: one row for each revoked subject or client and one for everything, instead of one for each session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.personal_data.cipher import Kind
from token_service.core.personal_data.keys import EncryptionState, PersonalKeys
from token_service.core.revocation.log import FloorPosition
from token_service.stores.sql.engine.prepared import Prepared
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import log_head, revocation_floors, sessions
from token_service.tokens.revocation import RevocationTarget

FLOORS: Final = frozenset((RevocationTarget.SUBJECT, RevocationTarget.CLIENT, RevocationTarget.EVERYTHING))
"""The targets of entries that raise a floor."""
_CLOCKS_APART: Final = 3600_000_000
"""Microseconds by which the creation time of a session below a floor may be later than the time of the floor."""


def floors_of(entry: Mapping[str, Any], keys: PersonalKeys) -> Sequence[dict[str, Any]]:
    """Return the floors that an unencrypted entry raises.

    One for each form of a subject that a session may hold, because a session is below the floor of its own form.
    """
    value = entry["value"]
    is_subject = entry["target"] == RevocationTarget.SUBJECT
    return [
        {
            "kind": entry["target"],
            "target": target,
            "sequence": entry["sequence"],
            "raise_time": entry["revoke_time"],
            "reason": entry["reason"],
            "reason_sequence": entry["sequence"],
        }
        for target in (keys.forms(Kind.SUBJECT, value) if is_subject else (value,))
    ]


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
        .where(floors.kind != number(RevocationTarget.EVERYTHING), ~_is_kept(floors))
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


def _is_kept(floors: sa.ColumnCollection[str, Any]) -> sa.ColumnElement[bool]:
    """Return the condition that a floor may be the one of a session whose subject will change its form."""
    state = sa.select(log_head.c.personal_data_state).where(log_head.c.id == number(1)).scalar_subquery()
    changing = [number(state) for state in EncryptionState if state.is_changing]
    return sa.and_(floors.kind == number(RevocationTarget.SUBJECT), state.in_(changing))


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
