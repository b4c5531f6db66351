"""The `PolicyStore` on SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.core.overrides.store import StoredOverrides
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import log_head, policy_overrides

_HEAD: Final = sa.select(log_head.c.policies_revision).where(log_head.c.id == number(1))
_ROWS: Final = sa.select(policy_overrides).order_by(policy_overrides.c.path)


class SqlPolicyStore:
    """The overrides of the policies. See `core.overrides.store.PolicyStore`.

    A change locks the row of `log_head` first, as an append to the log and a change of a client do.
    """

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events

    async def load(self) -> StoredOverrides:
        """See `PolicyStore.load`."""

        async def work(connection: AsyncConnection) -> StoredOverrides:
            revision = (await connection.execute(_HEAD)).scalar_one()
            rows = (await connection.execute(_ROWS)).all()
            last = max(rows, key=lambda row: row.revision, default=None)
            return StoredOverrides(
                revision,
                {row.path: row.value for row in rows if row.value is not None},
                None if last is None else to_seconds(last.update_time),
                "" if last is None else last.updated_by,
            )

        return await self._database.read(work, snapshot=True)

    async def change(
        self,
        changes: Mapping[str, str | None],
        *,
        revision: int,
        now: float,
        by: str,
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """See `PolicyStore.change`."""

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(_HEAD.with_for_update())).scalar_one() != revision:
                return False
            statement = insert(policy_overrides, self._database.dialect)
            new = ("value", "revision", "update_time", "updated_by")
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[policy_overrides.c.path],
                    set_={name: statement.excluded[name] for name in new},
                ),
                [
                    {
                        "path": path,
                        "value": value,
                        "revision": revision + 1,
                        "update_time": to_micros(now),
                        "updated_by": by,
                    }
                    for path, value in changes.items()
                ],
            )
            await connection.execute(sa.update(log_head).values(policies_revision=revision + 1))
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)
