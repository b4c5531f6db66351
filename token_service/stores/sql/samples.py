"""The `SampleStore` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.subscribers.samples import CursorSample
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import cursor_samples

_S: Final = cursor_samples.c


class SqlSampleStore:
    """The samples. See `core.subscribers.samples.SampleStore`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def add(self, samples: Sequence[CursorSample]) -> None:
        """See `SampleStore.add`."""
        values = [
            {
                "time": to_micros(each.time),
                "subscriber": each.subscriber,
                "epoch": each.epoch,
                "sequence": each.sequence,
            }
            for each in samples
        ]
        statement = insert(cursor_samples, self._database.dialect).on_conflict_do_nothing()

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement, values)

        await self._database.write(work)

    async def first(self, epoch: str, sequence: int, since: float, until: float) -> Sequence[CursorSample]:
        """See `SampleStore.first`."""
        statement = (
            sa.select(_S.subscriber, sa.func.min(_S.time), sa.func.min(_S.sequence))
            .where(
                _S.time >= to_micros(since),
                _S.time < to_micros(until),
                _S.epoch == epoch,
                _S.sequence >= sequence,
            )
            .group_by(_S.subscriber)
            .order_by(_S.subscriber)
        )

        async def select(connection: AsyncConnection) -> Sequence[CursorSample]:
            return [
                CursorSample(to_seconds(time), subscriber, epoch, reached)
                for subscriber, time, reached in await connection.execute(statement)
            ]

        return await self._database.read(select)

    async def purge(self, before: float, limit: int) -> int:
        """See `SampleStore.purge`."""
        place = sa.tuple_(_S.time, _S.subscriber)
        oldest = (
            sa.select(_S.time, _S.subscriber)
            .where(_S.time < to_micros(before))
            .order_by(_S.time)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(sa.delete(cursor_samples).where(place.in_(oldest)))).rowcount

        return await self._database.write(work)
