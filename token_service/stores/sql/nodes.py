"""The `NodeStore` on SQL."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import NodeReport, SubscriberList
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import database_now, insert
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.schema import log_head, nodes

_EPOCH_MARK: Final = -1
"""The sequence of the first foreign confirmation, whose name is the epoch of the report.

Nodes of release 0.1.0 ignore it like any confirmation of a subscriber they have a later one of, or none.
"""
_LEVEL: Final = 1
"""The level of zlib. The names of 10,000 subscribers shrink to a fifth in 15 ms; higher levels take several times as long."""
_encode: Final = msgspec.json.Encoder().encode
_details: Final = msgspec.json.Decoder(NodeDetails).decode
_list: Final = msgspec.json.Decoder(SubscriberList).decode
_REPORT: Final = (
    nodes.c.node_id,
    nodes.c.report_time,
    nodes.c.connected,
    nodes.c.applied,
    nodes.c.foreign_confirmations,
    nodes.c.key_revision,
    nodes.c.details,
    nodes.c.wants_subscribers,
)
"""The columns of a report. The list of subscribers, which can be large, is read on request only."""
_pairs_of_numbers: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode
_pairs_by_name: Final = msgspec.json.Decoder(list[tuple[str, int]]).decode


class SqlNodeStore:
    """The reports of the nodes. See `core.subscribers.node_store.NodeStore`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def report(self, report: NodeReport) -> None:
        """See `NodeStore.report`."""
        values = {
            "connected": report.connected,
            "applied": _encode(report.applied).decode(),
            "foreign_confirmations": _encode(_with_epoch(report)).decode(),
            "key_revision": report.key_revision,
            "details": None if report.details is None else _encode(report.details).decode(),
            "wants_subscribers": int(report.wants_subscribers),
            "report_time": database_now(),
        }
        statement = insert(nodes, self._database.dialect).values(node_id=report.node_id, **values)
        statement = statement.on_conflict_do_update(
            index_elements=[nodes.c.node_id], set_={name: statement.excluded[name] for name in values}
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)

    async def reports(self, max_age: float, *, purge: bool = True) -> Sequence[NodeReport]:
        """See `NodeStore.reports`."""
        oldest = to_micros(max_age)
        age = (database_now() - nodes.c.report_time).label("age")
        list_age = (database_now() - nodes.c.subscribers_time).label("list_age")

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            statement = sa.select(*_REPORT, age, list_age).order_by(nodes.c.node_id)
            return (await connection.execute(statement)).all()

        rows = await self._database.read(select)
        stale = [(row.node_id, row.report_time) for row in rows if row.age > oldest]
        if stale and purge:  # rare, so most calls cost no write

            async def delete(connection: AsyncConnection) -> None:
                # A node that has reported since keeps its row.
                await connection.execute(
                    sa.delete(nodes).where(sa.tuple_(nodes.c.node_id, nodes.c.report_time).in_(stale))
                )

            await self._database.write(delete)
        return [_report(row) for row in rows if row.age <= oldest]

    async def forget(self, node_id: str) -> None:
        """See `NodeStore.forget`."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(nodes).where(nodes.c.node_id == node_id))

        await self._database.write(work)

    async def put_list(self, node_id: str, subscribers: SubscriberList | None) -> None:
        """See `NodeStore.put_list`."""
        values: dict[str, Any] = {"subscribers": None, "subscribers_time": None}
        if subscribers is not None:
            # A thread, because the list of thousands of subscribers would stop the event loop for 30 ms.
            packed = await asyncio.to_thread(lambda: zlib.compress(_encode(subscribers), _LEVEL))
            values = {"subscribers": packed, "subscribers_time": database_now()}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.update(nodes).where(nodes.c.node_id == node_id).values(values))

        await self._database.write(work)

    async def lists(self, node_ids: Collection[str]) -> Mapping[str, SubscriberList]:
        """See `NodeStore.lists`."""
        if not node_ids:
            return {}
        age = (database_now() - nodes.c.subscribers_time).label("age")
        statement = sa.select(nodes.c.node_id, nodes.c.subscribers, age).where(
            nodes.c.node_id.in_(node_ids), nodes.c.subscribers.is_not(None)
        )

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return (await connection.execute(statement)).all()

        rows = await self._database.read(select)
        return await asyncio.to_thread(lambda: {row.node_id: _unpacked(row) for row in rows})

    async def request(self, sequence: int) -> None:
        """See `NodeStore.request`."""
        statement = (
            sa.update(log_head)
            .where(log_head.c.awaited_sequence < sequence)
            .values(awaited_sequence=sequence)
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)


def _with_epoch(report: NodeReport) -> Sequence[tuple[str, int]]:
    return report.foreign if report.epoch is None else [(report.epoch, _EPOCH_MARK), *report.foreign]


def _report(row: sa.Row[Any]) -> NodeReport:
    epoch = None
    foreign = _pairs_by_name(row.foreign_confirmations)
    if foreign and foreign[0][1] == _EPOCH_MARK:
        (epoch, _), *foreign = foreign
    return NodeReport(
        node_id=row.node_id,
        connected=row.connected,
        applied=_pairs_of_numbers(row.applied),
        foreign=foreign,
        key_revision=row.key_revision,
        age=_seconds(row.age),
        epoch=epoch,
        details=None if row.details is None else _details(row.details),
        wants_subscribers=bool(row.wants_subscribers),
        list_age=None if row.list_age is None else _seconds(row.list_age),
    )


def _unpacked(row: sa.Row[Any]) -> SubscriberList:
    return replace(_list(zlib.decompress(row.subscribers)), age=_seconds(row.age))


def _seconds(age: int) -> float:
    return max(0.0, age / 1_000_000)
