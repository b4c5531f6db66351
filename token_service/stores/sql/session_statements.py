"""The statements of the session store, built from the schema once.

Each frequent operation is a single statement that decides alone. This is sufficient on PostgreSQL at READ COMMITTED
for these reasons:

- A statement sees one snapshot S, taken at its beginning. Its row, the floors and the head it returns are all
  from S.
- If another transaction holds the row, the UPDATE waits. After the commit of the other transaction PostgreSQL
  evaluates WHERE again with the *newest version of the row*, but still with S for the sub-selects of other tables.
  The columns that decide the race between two uses of one token (`generation`, `refresh_hash`, `retries`,
  `revoke_time`, the expiries) are all in the row, so the second statement finds its condition false. SET is also
  evaluated on the newest version.
- Only the floors are then as old as S: the statement misses a floor raised between S and the end of the wait. This
  is safe. The result has `head` of S, below the new floor, so this floor revokes the tokens made from the result.
  `revision`, which no rotation changes, also stays below the floor, so the row is dead for every later statement. The
  outcome is the same as if this statement had run just before the concurrent revocation.
- A new row gets its `revision` from S in the inserting statement. A floor raised later is higher, so the row is dead.
  A floor in S is not higher, so the row is alive. No separate check exists that could disagree with the insert.
- The same snapshot shows whether the client has ended, see `_has_ended`.
- Rows are locked one by one in the order of their ids (batches are sorted). A transaction that also needs the head of
  the log locks the head first; rotations never lock it. So no cycle of locks exists. If a deadlock occurs anyway, the
  batch is repeated.

SQLite has only one writer at once, so the same holds there.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import BigInteger, Integer, LargeBinary, Text, Uuid, bindparam

from token_service.stores.sql.engine.lane import ITEM
from token_service.stores.sql.expressions import greatest, insert, least, number
from token_service.stores.sql.personal_data import is_known_revision
from token_service.stores.sql.rows import FLOOR_KINDS, ORIGIN_COLUMNS, SESSION_COLUMNS
from token_service.stores.sql.schema import clients, log_head, revocation_floors, sessions
from token_service.tokens.revocation import RevocationTarget

_S: Final = sessions.c


def _floor(kind: RevocationTarget, target: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    floors = revocation_floors.c
    found = (
        sa.select(floors.sequence)
        .where(floors.kind == number(kind), floors.target == target)
        .correlate(sessions)
    )
    return sa.func.coalesce(found.scalar_subquery(), number(0))


def _highest_floor(subject: sa.ColumnElement[str], client_id: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return greatest(
        _floor(RevocationTarget.SUBJECT, subject),
        _floor(RevocationTarget.CLIENT, client_id),
        _floor(RevocationTarget.EVERYTHING, sa.literal_column("''", Text)),
    )


FLOOR: Final[sa.ColumnElement[int]] = _highest_floor(_S.subject, _S.client_id)
"""The highest sequence at which the subject or the client of a session, or everything, was revoked."""

HEAD: Final[sa.ColumnElement[int]] = (
    sa.select(log_head.c.sequence).where(log_head.c.id == number(1)).scalar_subquery()
)
"""The sequence of the head of the log."""

SELECTED: Final[tuple[sa.ColumnElement[Any], ...]] = (
    *SESSION_COLUMNS,
    FLOOR.label("floor"),
    HEAD.label("head"),
)
"""The columns for `rows.session_of`."""

_NOT_INSERTED: Final = frozenset(
    {"revision", "last_ip_address", "last_user_agent", "origin_tag", "origins", "races"}
)
_ITEM: Final = bindparam(ITEM, type_=Integer).label(ITEM)


def live(now: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Return the condition that a session is live at `now` (microseconds)."""
    return sa.and_(
        _S.revoke_time.is_(None),
        _S.absolute_expire_time > now,
        _S.idle_expire_time > now,
        _S.revision >= FLOOR,
    )


def _micros(name: str) -> sa.BindParameter[int]:
    return bindparam(name, type_=BigInteger)


def _same_device() -> sa.ColumnElement[bool]:
    return sa.or_(
        _S.device_id == sa.literal_column("''", Text),
        _S.device_id == bindparam("p_device_id", type_=Text),
        _S.device_id == bindparam("p_device_id_too", type_=Text),
    )


def _key_is_proved() -> sa.ColumnElement[bool]:
    """Return the condition that a session is bound to one of two keys, as `rows.values_of_proved` writes them, or to none."""
    return sa.or_(
        _S.confirmation.is_(None),
        _S.confirmation == bindparam("p_proved", type_=Text),
        _S.confirmation == bindparam("p_proved_too", type_=Text),
    )


def _new_idle_expiry() -> dict[str, sa.ColumnElement[int]]:
    idle = least(_micros("p_idle_expire_time"), _S.absolute_expire_time)
    # `purge_time` decreases only if the policy now has a shorter timeout. Otherwise it is unchanged, so the UPDATE
    # writes to no index.
    return {"idle_expire_time": idle, "purge_time": least(_S.purge_time, idle)}


def insert_session(dialect: sa.Dialect) -> sa.Executable:
    """Return the statement that inserts a row.

    It returns no row if the request was made before, if the client is disabled or deleted, or if the state of the
    encryption is newer than the parameters.
    """
    values: dict[str, Any] = {
        column.name: bindparam(column.name, type_=column.type)
        for column in _S
        if column.name not in _NOT_INSERTED
    }
    # From the values, not the columns: a sub-select can't refer to the row that is being inserted.
    floor = _highest_floor(values["subject"], values["client_id"])
    statement: sa.Executable = (
        insert(sessions, dialect)
        .from_select(
            [*values, "revision"],
            sa.select(*values.values(), HEAD).where(~_has_ended(values["client_id"]), is_known_revision()),
        )
        .on_conflict_do_nothing(
            index_elements=[_S.client_id, _S.request_hash], index_where=_S.request_hash.is_not(None)
        )
        .returning(*SESSION_COLUMNS, floor.label("floor"), _S.revision.label("head"), _ITEM)
    )
    return statement


def _has_ended(client_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a client is disabled or deleted.

    A statement sees the end of a client and the floor that was raised with it in the same snapshot. So a session that
    is inserted at the same time is either refused or below the floor.
    """
    return sa.exists().where(
        clients.c.client_id == client_id, clients.c.state != sa.literal_column("'active'", Text)
    )


def select_ended_client() -> sa.Executable:
    """Return the statement that finds a client if it is disabled or deleted."""
    client_id = bindparam("p_client_id", type_=Text)
    return sa.select(clients.c.client_id, _ITEM).where(
        clients.c.client_id == client_id, _has_ended(client_id)
    )


def select_by_request() -> sa.Executable:
    """Return the statement that finds the row of a request."""
    return sa.select(*SELECTED, _ITEM).where(
        _S.client_id == bindparam("p_client_id", type_=Text),
        _S.request_hash == bindparam("p_request_hash", type_=LargeBinary),
        _S.request_hash.is_not(None),
    )


def select_by_id() -> sa.Executable:
    """Return the statement that finds a row by id, live or not."""
    return sa.select(*SELECTED, _ITEM).where(_S.id == bindparam("p_id", type_=Uuid))


def details() -> sa.Select[Any]:
    """Return the statement that selects the columns for `rows.details_of`."""
    targets = {
        RevocationTarget.SUBJECT: _S.subject,
        RevocationTarget.CLIENT: _S.client_id,
        RevocationTarget.EVERYTHING: sa.literal_column("''", Text),
    }
    source: sa.FromClause = sessions
    sequences: list[sa.ColumnElement[int]] = []
    columns: list[sa.ColumnElement[Any]] = []
    for kind in FLOOR_KINDS:
        table = revocation_floors.alias(f"{kind.name.lower()}_floor")
        source = source.outerjoin(
            table, sa.and_(table.c.kind == number(kind), table.c.target == targets[kind])
        )
        sequences.append(sa.func.coalesce(table.c.sequence, number(0)))
        reason = sa.case((table.c.reason_sequence == table.c.sequence, table.c.reason), else_=number(0))
        # The names of columns must differ for the engine to return each of them.
        columns += [
            column.label(f"{table.name}_{place}")
            for place, column in enumerate((table.c.sequence, table.c.raise_time, reason))
        ]
    floor = greatest(*sequences).label("floor")
    return sa.select(*SESSION_COLUMNS, floor, HEAD.label("head"), *ORIGIN_COLUMNS, *columns).select_from(
        source
    )


def select_details() -> sa.Executable:
    """Return the statement that finds a row by id, live or not, with its origin and its floors."""
    return details().add_columns(_ITEM).where(_S.id == bindparam("p_id", type_=Uuid))


def _last_use() -> dict[str, sa.ColumnElement[str]]:
    """Return the new origin of the last use. Null parameters leave it as it is."""
    return {
        column.name: sa.func.coalesce(bindparam(f"p_{column.name}", type_=Text), column)
        for column in (_S.last_ip_address, _S.last_user_agent)
    }


def _has_expected_tag() -> sa.ColumnElement[bool]:
    """Return the condition that a row has the tag that a judgment expects. A null parameter: none."""
    return _S.origin_tag.is_not_distinct_from(bindparam("p_expected_tag", type_=LargeBinary))


def _is_judged(renewed: sa.Column[int]) -> sa.ColumnElement[bool]:
    """Return the condition that a row is the one that was judged."""
    return sa.and_(_has_expected_tag(), renewed <= _micros("p_renewed_by"))


def _judged_origins() -> dict[str, sa.ColumnElement[Any]]:
    """Return the new tag and the new origins. A null parameter leaves the origins as they are."""
    return {
        "origin_tag": bindparam("p_tag", type_=LargeBinary),
        "origins": sa.func.coalesce(bindparam("p_origins", type_=Text), _S.origins),
    }


def rotate(*, judged: bool = False) -> sa.Executable:
    """Return the statement of `SessionStore.rotate`, for a command with or without a judgment."""
    now = _micros("p_now")
    return (
        sa.update(sessions)
        .where(
            _S.id == bindparam("p_id", type_=Uuid),
            _S.client_id == bindparam("p_client_id", type_=Text),
            _same_device(),
            _key_is_proved(),
            _S.generation == bindparam("p_generation", type_=BigInteger),
            _S.refresh_hash == bindparam("p_current_hash", type_=LargeBinary),
            live(now),
            is_known_revision(),
            *([_is_judged(_S.rotate_time)] if judged else []),
        )
        .values(
            generation=_S.generation + number(1),
            previous_hash=_S.refresh_hash,
            refresh_hash=bindparam("p_next_hash", type_=LargeBinary),
            key_version=bindparam("p_key_version", type_=Integer),
            rotate_time=now,
            last_use_time=now,
            retries=number(0),
            **_new_idle_expiry(),
            **_last_use(),
            **(_judged_origins() if judged else {}),
        )
        .returning(*SELECTED, _ITEM)
    )


def retry(*, judged: bool) -> sa.Executable:
    """Return the statement of `SessionStore.retry`, for a command with or without a judgment."""
    return (
        sa.update(sessions)
        .where(
            _S.id == bindparam("p_id", type_=Uuid),
            _S.client_id == bindparam("p_client_id", type_=Text),
            _same_device(),
            _key_is_proved(),
            _S.generation == bindparam("p_generation", type_=BigInteger) + number(1),
            _S.previous_hash == bindparam("p_previous_hash", type_=LargeBinary),
            _S.rotate_time > _micros("p_rotated_after"),
            _S.retries < bindparam("p_max_retries", type_=Integer),
            live(_micros("p_now")),
            *([_has_expected_tag()] if judged else []),
        )
        .values(retries=_S.retries + number(1))
        .returning(*SELECTED, _ITEM)
    )


def race() -> sa.Executable:
    """Return the statement of `SessionStore.race`."""
    races = sa.func.coalesce(_S.races, number(0))
    return (
        sa.update(sessions)
        .where(
            _S.id == bindparam("p_id", type_=Uuid),
            _S.generation == bindparam("p_generation", type_=BigInteger),
            races < bindparam("p_max_races", type_=Integer),
            live(_micros("p_now")),
        )
        .values(races=races + number(1))
        .returning(_S.id)
    )


def amend() -> sa.Executable:
    """Return the statement of `SessionStore.amend`. Null parameters leave their column as it is."""

    def unless_null(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        return sa.func.coalesce(bindparam(f"p_{column.name}", type_=Text), column)

    return (
        sa.update(sessions)
        .where(
            _S.id == bindparam("p_id", type_=Uuid),
            _S.scopes == bindparam("p_expected_scopes", type_=Text),
            live(_micros("p_now")),
        )
        .values(
            scopes=bindparam("p_scopes", type_=Text),
            custom_claims=unless_null(_S.custom_claims),
            personal=sa.func.coalesce(bindparam("p_personal", type_=LargeBinary), _S.personal),
            auth_context=sa.func.nullif(unless_null(_S.auth_context), sa.literal_column("''", Text)),
        )
        .returning(*SELECTED, _ITEM)
    )


def raise_context() -> sa.Executable:
    """Return the statement of `SessionStore.raise_context`. An empty text stands for a session without a context."""
    return (
        sa.update(sessions)
        .where(
            _S.id == bindparam("p_id", type_=Uuid),
            _S.client_id == bindparam("p_client_id", type_=Text),
            sa.func.coalesce(_S.auth_context, sa.literal_column("''", Text))
            == bindparam("p_expected", type_=Text),
            live(_micros("p_now")),
        )
        .values(auth_context=bindparam("p_auth_context", type_=Text))
        .returning(*SELECTED, _ITEM)
    )


def use(*, with_hash: bool, judged: bool = False) -> sa.Executable:
    """Return the statement of `SessionStore.use`, with or without `refresh_hash` and the origin of the refresh."""
    now = _micros("p_now")
    conditions = [_S.id == bindparam("p_id", type_=Uuid), live(now)]
    origin: dict[str, sa.ColumnElement[Any]] = {}
    if judged:
        conditions.append(_is_judged(_S.last_use_time))
        origin = _judged_origins()
    if with_hash:
        conditions += [
            _S.refresh_hash == bindparam("p_refresh_hash", type_=LargeBinary),
            is_known_revision(),
        ]
        origin |= _last_use()
    return (
        sa.update(sessions)
        .where(*conditions)
        .values(last_use_time=now, **_new_idle_expiry(), **origin)
        .returning(*SELECTED, _ITEM)
    )
