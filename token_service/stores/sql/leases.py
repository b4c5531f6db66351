"""The `LeaseStore` on SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import database_now, insert, least
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import leases


class SqlLeaseStore:
    """The leases of jobs that run on one node. See `core.leases.LeaseStore`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        """See `LeaseStore.acquire`."""
        statement = insert(leases, self._database.dialect).values(
            name=name, holder=holder, expire_time=database_now() + to_micros(ttl)
        )
        statement = statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": statement.excluded.holder, "expire_time": statement.excluded.expire_time},
            where=sa.or_(
                leases.c.holder == statement.excluded.holder, leases.c.expire_time <= database_now()
            ),
        ).returning(leases.c.name)

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).first() is not None

        return await self._database.write(work)

    async def release(self, name: str, holder: str) -> None:
        """See `LeaseStore.release`."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                sa.update(leases)
                .where(
                    leases.c.name == name, leases.c.holder == holder, leases.c.expire_time > database_now()
                )
                .values(expire_time=database_now())
            )

        await self._database.write(work)

    async def holders(self) -> Mapping[str, str]:
        """See `LeaseStore.holders`."""
        # A row without a holder is a noted time.
        statement = sa.select(leases.c.name, leases.c.holder).where(
            leases.c.holder != "", leases.c.expire_time > database_now()
        )

        async def select(connection: AsyncConnection) -> Mapping[str, str]:
            return {row.name: row.holder for row in await connection.execute(statement)}

        return await self._database.read(select)

    async def earliest(self, name: str, time: float) -> float:
        """See `LeaseStore.earliest`."""
        return await self._note(name, time, least(leases.c.expire_time, to_micros(time)))

    async def note(self, name: str, time: float) -> None:
        """See `LeaseStore.note`."""
        await self._note(name, time, to_micros(time))

    async def _note(self, name: str, time: float, otherwise: Any) -> float:
        # The row is a lease without a holder: the columns suffice, and nodes of earlier versions do not touch it.
        statement = insert(leases, self._database.dialect).values(
            name=name, holder="", expire_time=to_micros(time)
        )
        statement = statement.on_conflict_do_update(
            index_elements=[leases.c.name], set_={"expire_time": otherwise}
        ).returning(leases.c.expire_time)

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(statement)).scalar_one())

        return to_seconds(await self._database.write(work))
