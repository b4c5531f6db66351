"""The row of `log_head`: reading it, locking it, and recognizing a log of another server."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.revocation.log import LogHead, LogMovedError
from token_service.stores.sql.engine.lane import Row
from token_service.stores.sql.expressions import database_now, number, replicated, server_identity
from token_service.stores.sql.rows import head_of
from token_service.stores.sql.schema import log_head

HEAD: Final = sa.select(
    log_head.c.epoch,
    log_head.c.sequence,
    log_head.c.compacted_sequence,
    log_head.c.key_revision,
    sa.case((log_head.c.newest_sequence == log_head.c.sequence, log_head.c.newest_time)),
    log_head.c.awaited_sequence,
    database_now(),
    log_head.c.client_revision,
    log_head.c.server,
    server_identity(),
    sa.func.coalesce(log_head.c.replicated_sequence == log_head.c.sequence, sa.false()),
    log_head.c.policies_revision,
    log_head.c.personal_data_revision,
).where(log_head.c.id == number(1))
_LOCKED: Final = HEAD.with_for_update()
PERSONAL_REVISION: Final = 12
"""The column of `HEAD` with the revision of the keys of personal data."""
_SERVER: Final = slice(8, 11)
"""The columns of `HEAD` that tell where it was written."""

COMPACTED: Final = (
    sa.select(log_head.c.compacted_sequence).where(log_head.c.id == number(1)).scalar_subquery()
)


async def locked_row(connection: AsyncConnection) -> Row:
    """Lock the head and return the row of `HEAD`."""
    return tuple((await connection.execute(_LOCKED)).one())


async def locked_head(connection: AsyncConnection) -> LogHead:
    """Lock the head and return it. Raises `LogMovedError`."""
    return head_here(await locked_row(connection))


def head_here(row: Row) -> LogHead:
    """Return the head of a row of `HEAD`. Raises `LogMovedError`."""
    head = head_of(row)
    require_same_server(row, head)
    return head


def require_same_server(row: Row, head: LogHead) -> None:
    """Raise `LogMovedError` if the head of a row of `HEAD` was written on another server than this one."""
    written_on, server, replicated_there = row[_SERVER]
    if written_on is not None and server is not None and written_on != server:
        raise LogMovedError(
            head, nothing_lost=bool(replicated_there), promoted=_is_promoted(written_on, server)
        )


def _is_promoted(written_on: str, server: str) -> bool:
    """Tell whether a server is of the same cluster as another one and has a later timeline."""
    (cluster, _, timeline), (same, _, later) = written_on.partition("/"), server.partition("/")
    return cluster == same and timeline < later  # both have 8 digits


def written_here(sequence: sa.ColumnElement[int]) -> dict[str, Any]:
    """Return the columns of the head for a log that this server writes up to `sequence`."""
    return {
        "server": server_identity(),
        "replicated_sequence": sa.case((replicated(), sequence)),
    }
