"""The access to one database: SQLAlchemy's engine for rare statements, lanes for frequent ones.

All errors of the drivers are translated here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from token_service.errors import ConfigurationError
from token_service.stores.sql.engine.engine import WRITES, create_engine, driver_errors, require_in_place
from token_service.stores.sql.engine.errors import (
    Failure,
    UnusableServerError,
    classify,
    translate,
    unavailable,
)
from token_service.stores.sql.engine.group_commit import GroupCommitter
from token_service.stores.sql.engine.lane import Call, Lane, Row
from token_service.stores.sql.engine.pool import Pool
from token_service.stores.sql.engine.space import SpaceWatch
from token_service.stores.sql.engine.sqlite_file import SqliteFile
from token_service.stores.sql.schema import leases
from token_service.telemetry.spans import client_span
from token_service.urls import DatabaseUrl, UnusableValueError

if TYPE_CHECKING:
    from token_service.stores.sql.engine.servers import Servers

T = TypeVar("T")

DEADLINE: Final = 12.0
"""Seconds for one transaction through the engine, including connection and retries.

The limit of each statement is shorter.
"""
ATTEMPTS: Final = 5
MAX_BATCH: Final = 64
SECOND_WRITER_FROM: Final = 5
"""The smallest pool in which a second batch of writes may run while the first one commits."""
COMPANY: Final = 8
"""Waiting writes that start a second batch while the first one commits."""
PATIENCE: Final = 0.002
"""Seconds after which a second batch starts with fewer writes."""
_GROWTH: Final = 32 * 1024
"""Bytes of the write that tests for free space, before hexadecimal encoding. Random bytes can't be compressed."""
MAX_QUEUE: Final = 10_000
"""Calls that may wait for a lane."""
_REPEATED: Final = frozenset((Failure.TRANSIENT, Failure.UNSENT))


def _parse(url: str) -> DatabaseUrl:
    try:
        return DatabaseUrl.parse(url)
    except UnusableValueError as error:
        # The URL is not shown even redacted: in an unreadable URL the password may be in any part.
        raise ConfigurationError(
            f"the database URL can't be used ({error}); allowed are "
            "postgresql://user:password@host:port/database and sqlite:////absolute/path.db"
        ) from None


class Database:
    """A database with its engine and its lanes. The constructor does no I/O."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        """Create a database with at most `pool_size` connections, but at least 3.

        Raises `ConfigurationError` for an unreadable URL.
        """
        self.url: Final = _parse(url)
        writers = 1 if self.url.path is not None or pool_size < SECOND_WRITER_FROM else 2
        self._file: Final = None if self.url.path is None else SqliteFile(self.url.path)
        self._servers: Final = _servers_of(self.url)
        self.engine: Final[AsyncEngine] = create_engine(
            self.url, max(1, pool_size - writers - 1), file=self._file, servers=self._servers
        )
        system = "postgresql" if self.url.path is None else "sqlite"
        self._attributes: Final = {"db.system.name": system}
        self.pool: Final = Pool(self.engine)
        self.space: Final = SpaceWatch(self._grow)
        self._suspended = False
        self._errors: Final = driver_errors(self.url)
        self._write_lock: Final = asyncio.Lock() if self.url.path is not None else None
        self._write_lanes: Final = [self._lane(writes=True) for _ in range(writers)]
        self._read_lane: Final = self._lane(writes=False)
        self._writes: Final[GroupCommitter[Call, Row | None]] = GroupCommitter(
            [lane.run for lane in self._write_lanes],
            max_batch=MAX_BATCH,
            max_queue=MAX_QUEUE,
            company=COMPANY,
            patience=PATIENCE,
        )
        self._reads: Final[GroupCommitter[Call, Row | None]] = GroupCommitter(
            [self._read_lane.run], max_batch=MAX_BATCH, max_queue=MAX_QUEUE
        )

    @property
    def queued(self) -> tuple[int, int]:
        """The numbers of calls that wait for a batch of reads, and for a batch of writes."""
        return len(self._reads), len(self._writes)

    def suspend(self) -> None:
        """Refuse `write_one` until the log is renewed."""
        self._suspended = True

    def resume(self) -> None:
        """Undo `suspend`."""
        self._suspended = False

    @property
    def dialect(self) -> sa.Dialect:
        """The dialect that statements are compiled for."""
        return self.engine.dialect

    def open(self) -> None:
        """Start the tasks of the lanes in the running loop. The lanes connect on first use."""
        self._writes.open()
        self._reads.open()

    async def aclose(self) -> None:
        """Finish the queued calls and close every connection."""
        # The stack runs every callback even if one fails, the last one first.
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.engine.dispose)
            for lane in (*self._write_lanes, self._read_lane):
                stack.push_async_callback(lane.aclose)
            stack.push_async_callback(self._reads.aclose)
            stack.push_async_callback(self._writes.aclose)

    async def write_one(self, call: Call) -> Row | None:
        """Run a statement that writes at most one row, and return the row.

        The commit is shared with other calls. The write is durable when this method returns.
        """
        if self._suspended:
            raise unavailable()
        with self.span(call.statement.name), self.space.noticing():
            return await self._writes(call)

    async def read_one(self, call: Call) -> Row | None:
        """Run a statement that reads at most one row, and return the row. The read begins after this call."""
        with self.span(call.statement.name):
            return await self._reads(call)

    def span(self, name: str | Callable[..., Any]) -> AbstractContextManager[None]:
        """Trace a block as the work of the database: a statement by its name, a transaction by its function."""
        return client_span(name, self._attributes)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do `work` in a transaction and commit. Repeats the work if the database rolled back because of a conflict."""
        lock = self._write_lock or nullcontext()
        with self.span(work), self.space.noticing():
            return await self._run(work, {WRITES: True}, lock)

    async def _grow(self) -> None:
        """Write as many bytes as the largest call, and delete them."""
        row = {
            "name": f"space {secrets.token_hex(8)}",
            "holder": secrets.token_hex(_GROWTH),
            "expire_time": 0,
        }
        lock = self._write_lock or nullcontext()
        for statement in (
            sa.insert(leases).values(row),
            sa.delete(leases).where(leases.c.name.startswith("space "), leases.c.expire_time == 0),
        ):
            await self._run(partial(AsyncConnection.execute, statement=statement), {WRITES: True}, lock)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]], *, snapshot: bool = False) -> T:
        """Do `work`, which only reads. With `snapshot` all its statements see the same state."""
        options: dict[str, Any] = {}
        if not self.url.path:
            options["isolation_level"] = "REPEATABLE READ" if snapshot else "AUTOCOMMIT"
        with self.span(work):
            return await self._run(work, options, nullcontext())

    async def _run(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        options: dict[str, Any],
        lock: AbstractAsyncContextManager[Any],
    ) -> T:
        try:
            async with asyncio.timeout(DEADLINE):
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        async with lock, self.pool.connection() as connection:
                            await connection.execution_options(**options)
                            async with connection.begin():
                                result = await work(connection)
                            if self.url.path is None:
                                await _require_replicated(connection)
                            if self._file is not None:  # before a read is trusted or a write acknowledged
                                require_in_place(self._file, connection)
                            return result
                    except self._errors as error:
                        if attempt == ATTEMPTS or classify(error) not in _REPEATED:
                            raise
                    await asyncio.sleep(attempt * 0.005)
        except self._errors as error:
            raise translate(error) from error
        raise AssertionError("unreachable")

    def _lane(self, *, writes: bool) -> Lane:
        # Only the driver in use is imported.
        if self._file is not None:
            from token_service.stores.sql.engine.sqlite import SqliteLane

            return SqliteLane(self._file, write_lock=self._write_lock if writes else None)
        from token_service.stores.sql.engine.postgresql import PostgresLane

        assert self._servers is not None
        return PostgresLane(self._servers)


def _servers_of(url: DatabaseUrl) -> Servers | None:
    if url.path is not None:
        return None
    from token_service.stores.sql.engine.servers import Servers

    return Servers(url)


async def _require_replicated(connection: AsyncConnection) -> None:
    from token_service.stores.sql.engine.servers import require_replicated

    raw = await connection.get_raw_connection()
    try:
        require_replicated(raw.driver_connection)
    except UnusableServerError:
        await connection.invalidate()
        raise
