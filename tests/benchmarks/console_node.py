"""Nodes whose console is measured: with a few rows and subscribers, and with very many."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import asyncpg

from tests.benchmarks.rpcs import Target, session_request
from tests.support.postgres import driver_url
from tests.support.processes import ServiceProcess
from token_service.config.settings import DATABASE_FILE
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import ListedSubscriber, NodeReport, SubscriberList
from token_service.stores.sql import SqlStores
from token_service.stores.sql.schema import audit_events, sessions


@dataclass(frozen=True)
class Size:
    """What a node and its peer have."""

    sessions: int
    revocations: int
    events: int
    clients: int
    subscribers: int


LARGE: Final = Size(1_000_000, 100_000, 200_000, 10_000, 10_000)
SMALL: Final = Size(1_000, 1_000, 1_000, 1_000, 200)
"""Enough for a second page of each list: the pages of both sizes have the same numbers of rows."""
PEER: Final = "peer"
"""The id of the node that has the subscribers."""
_START: Final = 120
_LONGEST: Final = 900.0
"""Seconds for which a database may be filled."""
_REPORT_EVERY: Final = 1.0


class ConsoleNode:
    """A node with an open console, on SQLite unless `url` names a database of PostgreSQL."""

    def __init__(self, size: Size, directory: Path, url: str = "") -> None:
        self.size: Final = size
        self._directory = directory
        self._given = url
        env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
        if url:
            env["TOKEN_SERVICE_DATABASE_URL"] = url
            env["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = "3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8="
        self.service: Final = ServiceProcess(
            env=env, data_dir=None if url else directory, ready_timeout=_START
        )

    @property
    def url(self) -> str:
        """The URL of the database."""
        return self._given or f"sqlite:///{self.service.data_dir / DATABASE_FILE}"

    @property
    def target(self) -> Target:
        """The node as a server of calls."""
        return Target(self.service, self._directory)

    def fill(self) -> None:
        """Give the database its rows: copies of one session, one event and so on. The node starts again."""
        self.target.call("IssueToken", session_request().SerializeToString())
        self.service.terminate()
        statements = _statements(self.size, is_sqlite=not self._given)
        if self._given:
            asyncio.run(_fill_postgresql(self._given, statements))
        else:
            _fill_sqlite(self.service.data_dir / DATABASE_FILE, statements)
        self.service.start()

    def __enter__(self) -> Self:
        self.service.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.close()


def _statements(size: Size, *, is_sqlite: bool) -> Sequence[str]:
    new_id = "lower(hex(randomblob(16)))" if is_sqlite else "gen_random_uuid()"
    now = int(time.time())

    def copies(table: str, columns: Sequence[str], changed: dict[str, str], count: int) -> str:
        values = ", ".join(changed.get(name, f"model.{name}") for name in columns)
        return (
            f"{_numbers(count)}INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) AS model CROSS JOIN n"
        )

    return (
        copies(
            "sessions",
            [column.name for column in sessions.c],
            {
                "id": new_id,
                "create_time": "model.create_time - i * 1000",
                "subject": f"'user-' || (i % {size.sessions // 10})",
                # Every tenth session is one of the same client.
                "client_id": "CASE WHEN i % 10 = 0 THEN model.client_id ELSE 'client-' || (i % 1000) END",
                "device_id": f"'device-' || (i % {size.sessions // 2})",
            },
            size.sessions,
        ),
        copies(
            "audit_events",
            [column.name for column in audit_events.c],
            {
                "position": "model.position + 1000000 + i",
                "time": "model.time - i * 1000",
                "subject": "'user-' || (i % 1000)",
                "target_id": "'target-' || (i % 1000)",
            },
            size.events,
        ),
        _numbers(size.revocations) + "INSERT INTO revocations "
        "(sequence, revoke_time, expire_time, token_expire_time, target, reason, value, comment) "
        f"SELECT i, {now}000000, ({now} + 86400 + i % 3000) * CAST(1000000 AS BIGINT), {now} + 86100 + i % 3000, 1, 1, "
        "'token-' || i, 'left the company' FROM n",
        f"UPDATE log_head SET sequence = {size.revocations}, client_revision = {size.clients}",
        _numbers(size.clients)
        + "INSERT INTO clients (client_id, state, revision, create_time, update_time, metadata) "
        "SELECT 'client-' || i, 'active', i, i, i, '{\"client_name\":\"Application\"}' FROM n",
    )


def _numbers(count: int) -> str:
    """Return the beginning of a statement with the numbers from 1 to `count` as `n(i)`."""
    return f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "


def _fill_sqlite(file: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = -400000")
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        connection.execute("COMMIT")


async def _fill_postgresql(url: str, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(driver_url(url))
    try:
        for statement in statements:
            await connection.execute(statement.replace(" * 1000000", " * 1000000::bigint"), timeout=_LONGEST)
        await connection.execute("VACUUM ANALYZE", timeout=_LONGEST)
        await connection.execute("CHECKPOINT", timeout=_LONGEST)
    finally:
        await connection.close()


class Peer:
    """Another node of a service as its database shows it: its report and the list of its subscribers.

    Real streams would measure this machine, which has to serve both of their ends.
    """

    def __init__(self, node: ConsoleNode) -> None:
        self._url = node.url
        self._subscribers = node.size.subscribers
        self._stopping = threading.Event()
        self._written = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        async with SqlStores(self._url) as stores:
            head = await stores.log.head()
            sequences = [head.sequence - number % 50 for number in range(self._subscribers)]
            applied = [(each, sequences.count(each)) for each in sorted(set(sequences))]
            listed = [
                ListedSubscriber(
                    subscriber=f"validator-{number}",
                    name=f"validator-{number}",
                    caller=f"service-{number % 100}",
                    sequence=sequence,
                    connected_for=3600.0 + number,
                    confirmation_age=2.0,
                    client_version="python/0.2.0",
                    validated=1000 * number,
                    refusals={"EXPIRED": number},
                )
                for number, sequence in enumerate(sequences)
            ]
            report = NodeReport(
                PEER,
                self._subscribers,
                applied,
                (),
                epoch=head.epoch,
                details=NodeDetails(host="peer", start_time=1.0),
            )
            while not self._stopping.is_set():
                await stores.nodes.report(report)
                await stores.nodes.put_list(PEER, SubscriberList(head.epoch, listed))
                self._written.set()
                await asyncio.sleep(_REPORT_EVERY)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._written.wait(30), "the peer could not write its report"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
