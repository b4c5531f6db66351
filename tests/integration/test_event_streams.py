"""Event streams of several nodes: every acknowledged change is delivered at least once and in order, also when nodes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import grpc
import psutil
import pytest

from tests.integration.calls import Api
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from token_service.v1 import event_service_pb2 as pb
from token_service.v1.event_service_pb2_grpc import EventServiceStub


class EventReader:
    """Follows the events at one node after another, and resumes with its last cursor."""

    def __init__(
        self, apis: list[Api], cursor: str, types: Sequence[pb.EventType] = (pb.EVENT_TYPE_REVOKED,)
    ) -> None:
        self._apis = apis
        self._types = types
        self.cursor = cursor
        self.events: list[pb.Event] = []
        self.ends: list[grpc.StatusCode] = []
        self.resets = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        for turn in range(1_000_000):
            stub = EventServiceStub(self._apis[turn % len(self._apis)].channel)
            request = pb.StreamEventsRequest(cursor=self.cursor, types=self._types)
            try:
                async for answer in stub.StreamEvents(request):
                    self.resets += answer.reset
                    self.events.extend(answer.events)
                    self.cursor = answer.cursor
            except grpc.aio.AioRpcError as error:
                self.ends.append(error.code())
                await asyncio.sleep(0.05)

    @property
    def revocations(self) -> set[str]:
        """The cursors of the revocations that were told."""
        return {event.revocation.revocation_cursor for event in self.events}

    async def stop(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def start_of(api: Api, *, from_earliest: bool = False) -> str:
    """Return a cursor after every event of now, or before the oldest one."""
    call = EventServiceStub(api.channel).StreamEvents(pb.StreamEventsRequest(from_earliest=from_earliest))
    first = await call.read()
    call.cancel()
    assert isinstance(first, pb.StreamEventsResponse)
    return f"{first.cursor.partition(':')[0]}:0" if from_earliest else first.cursor


@pytest.fixture(scope="module")
def cluster(database_url: str) -> Iterator[list[Node]]:
    with nodes(3, {"TOKEN_SERVICE_DATABASE_URL": database_url}) as made:
        yield made


async def test_killed_nodes_lose_no_event_and_keep_the_order(cluster: list[Node]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(Api(node.grpc_address)) for node in cluster]
        start = await start_of(apis[0])
        readers = [EventReader(apis[place:] + apis[:place], start) for place in range(3)]
        acknowledged: list[str] = []

        async def revoke(api: Api, name: str) -> None:
            for number in range(1_000_000):
                try:
                    acknowledged.append((await api.revoke(subject=f"{name}-{number}")).cursor)
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)

        writers = [asyncio.create_task(revoke(api, f"w{place}")) for place, api in enumerate(apis)]
        for node in cluster:
            reached = len(acknowledged)
            await eventually(lambda reached=reached: len(acknowledged) > reached + 60)  # type: ignore[misc]
            await asyncio.to_thread(node.kill)
            await eventually(lambda reached=reached: len(acknowledged) > reached + 90)  # type: ignore[misc]
            await asyncio.to_thread(node.start)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
        told = set(acknowledged)
        for reader in readers:
            await eventually(lambda reader=reader: told <= reader.revocations)  # type: ignore[misc]
            await reader.stop()
            assert not reader.resets
            assert reader.ends, "no node of this reader was killed"
            first_seen: dict[str, pb.Event] = {}
            for event in reader.events:
                first_seen.setdefault(event.id, event)
            chains: dict[str, list[int]] = {}
            for event in first_seen.values():
                chains.setdefault(event.audit_event.chain_id, []).append(event.audit_event.position)
            assert all(one < next_ for positions in chains.values() for one, next_ in pairwise(positions))
        # A cancelled call may still have revoked, and a reader that stopped early has not been told that.
        orders = [[event.id for event in _unique(reader)] for reader in readers]
        shortest = min(len(order) for order in orders)
        assert orders[0][:shortest] == orders[1][:shortest] == orders[2][:shortest]


async def test_readers_that_stop_reading_take_little_memory_of_a_node_that_serves_on() -> None:
    """100,000 events wait in the outbox of a node whose 20 readers leave their first message unread."""
    with Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}) as node:
        async with contextlib.AsyncExitStack() as stack:
            api = await stack.enter_async_context(Api(node.grpc_address))
            start = await start_of(api)
            token = (await api.issue("alice")).refresh_token
            await api.revoke(subject="bob")
            deaf = []
            for _ in range(20):
                channel = await stack.enter_async_context(
                    grpc.aio.insecure_channel(node.grpc_address, options=_SMALL_WINDOWS)
                )
                call = EventServiceStub(channel).StreamEvents(pb.StreamEventsRequest(cursor=start))
                await call.read()
                deaf.append(call)
            process = psutil.Process(node.pid)
            before = process.memory_info().rss
            await asyncio.to_thread(_fill_outbox, node.data_dir, 100_000)
            reader = EventReader([api], start, types=[pb.EVENT_TYPE_CLIENT_UPDATED])
            most = before

            async def all_read() -> bool:
                nonlocal most, token
                most = max(most, process.memory_info().rss)
                token = (await api.refresh(token)).refresh_token
                return len(reader.events) == 100_000

            await eventually(all_read, timeout=240)
            await reader.stop()
            assert most - before < 100 * 2**20, "the events have 200 MB"
            assert len({event.id for event in reader.events}) == 100_000
            for call in deaf:
                call.cancel()


_SMALL_WINDOWS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024),
]


def _fill_outbox(data_dir: Path, count: int) -> None:
    """Write copies of one audit event, each with 2,000 bytes of fields, into the database of a node."""
    (path,) = data_dir.glob("*.db")
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
        names = [row[1] for row in database.execute("PRAGMA table_info(audit_events)")]
        own = {"chain_id": "'copies'", "position": "n.value", "action": "'client.updated'"}
        own |= {"fields": """'{"text":"' || printf('%.2000c', 'x') || '"}'"""}
        columns = ", ".join(own.get(name, f"a.{name}") for name in names)
        numbers = f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT {count})"
        one = "(SELECT * FROM audit_events LIMIT 1) a"
        database.execute(
            f"{numbers} INSERT INTO audit_events ({', '.join(names)}) SELECT {columns} FROM n, {one}"
        )
        database.execute(
            f"{numbers} INSERT INTO outbox (type, payload, create_time) SELECT 'client.updated',"
            """ '{"chain_id":"copies","position":' || n.value || '}', a.time FROM n, """ + one
        )
        database.commit()


def _unique(reader: EventReader) -> list[pb.Event]:
    found: dict[str, pb.Event] = {}
    for event in reader.events:
        found.setdefault(event.id, event)
    return list(found.values())
