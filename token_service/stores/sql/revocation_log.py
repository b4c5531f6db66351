"""The `RevocationLog` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.revocation.log import FloorPosition, LogHead, LogMovedError, RevocationDraft
from token_service.errors import TokenServiceError
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import MAX_QUEUE, Database
from token_service.stores.sql.engine.errors import StatementRefusedError, unavailable
from token_service.stores.sql.engine.group_commit import GroupCommitter
from token_service.stores.sql.engine.lane import EVIDENCE, Call, Statement
from token_service.stores.sql.expressions import authoritative, greatest
from token_service.stores.sql.log_append import Appended, LogAppender
from token_service.stores.sql.log_head import COMPACTED, HEAD, require_same_server
from token_service.stores.sql.log_upkeep import LogRenewal, compact
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.revocation_floors import purge_floors
from token_service.stores.sql.rows import REVOCATION_COLUMNS, head_of, revocation_of
from token_service.stores.sql.schema import revocations
from token_service.tokens.revocation import Revocation

_MAX_BATCH: Final = 64


class SqlRevocationLog:
    """The revocation log. See `core.revocation.log.RevocationLog`.

    An append first locks the one row of `log_head`, then numbers its entries and commits while it holds the lock. So
    entry n + 1 is never committed before entry n, and every number has an entry, because drafts are skipped before
    the numbers are assigned.
    """

    def __init__(self, database: Database, append_events: AppendEvents, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._head: Final = Statement(
            "select_log_head", HEAD.add_columns(authoritative().label(EVIDENCE)), database.dialect
        )
        self._append: Final = LogAppender(database.dialect, append_events, personal)
        self._renewal: Final = LogRenewal(database.dialect, append_events, personal)
        self._appends: Final[GroupCommitter[Sequence[RevocationDraft], Appended]] = GroupCommitter(
            [self._flush], max_batch=_MAX_BATCH, max_queue=MAX_QUEUE
        )

    def open(self) -> None:
        """Start the task that appends entries."""
        self._appends.open()

    async def aclose(self) -> None:
        """Append the queued drafts and end the task."""
        await self._appends.aclose()

    async def append(self, drafts: Sequence[RevocationDraft]) -> Appended:
        """See `RevocationLog.append`."""
        if not drafts:
            return await self.head(), []
        with self._database.span("append_revocations"):
            return await self._appends(drafts)

    async def head(self) -> LogHead:
        """See `RevocationLog.head`. Concurrent calls share one read."""
        row = await self._database.read_one(Call(self._head, {}))
        if row is None:
            raise unavailable()  # the table was emptied by hand
        head = head_of(row)
        try:
            require_same_server(row, head)
        except LogMovedError:
            self._database.suspend()
            raise
        self._database.resume()
        return head

    async def read(self, after: int, limit: int) -> Sequence[Revocation]:
        """See `RevocationLog.read`."""
        statement = (
            sa.select(*REVOCATION_COLUMNS)
            # One bound only: with two, SQLite may search by the lower one and read all entries up to the other.
            .where(revocations.c.sequence > greatest(sa.literal(after, sa.BigInteger), COMPACTED))
            .order_by(revocations.c.sequence)
            .limit(limit)
        )

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(statement)).all()

        rows = await self._database.read(select)
        return await self._personal.opened(lambda keys: [revocation_of(row, keys) for row in rows])

    async def renew(
        self, draft: RevocationDraft, *, replaces: str, epoch: str, sequence: int, keep: bool = False
    ) -> LogHead | None:
        """See `RevocationLog.renew`."""
        renewed = await self._database.write(
            partial(self._renewal, draft=draft, replaces=replaces, epoch=epoch, sequence=sequence, keep=keep)
        )
        self._database.resume()
        return renewed

    async def compact(self, now: float, limit: int) -> int:
        """See `RevocationLog.compact`."""
        return await self._database.write(partial(compact, now=now, limit=limit))

    async def purge_floors(
        self, before: float, limit: int, after: FloorPosition | None = None
    ) -> tuple[int, FloorPosition | None]:
        """See `RevocationLog.purge_floors`."""
        return await self._database.write(partial(purge_floors, before=before, limit=limit, after=after))

    async def _flush(self, batch: Sequence[Sequence[RevocationDraft]]) -> Sequence[Appended | Exception]:
        try:
            return await self._database.write(partial(self._append, batch=batch))
        except StatementRefusedError as error:
            if len(batch) == 1:
                return [error]
        except TokenServiceError as error:
            return [error] * len(batch)
        # One refused append rolled back the whole batch: run each append alone.
        return [result for drafts in batch for result in await self._flush([drafts])]
