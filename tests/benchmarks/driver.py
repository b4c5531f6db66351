"""The limit of the database: a bare asyncpg pool that inserts sessions or moves their tokens on, one statement each.

The program gets the URL of a migrated database with at least one session, and the operation. It then takes
commands, one per line: `run <seconds>` returns a line of JSON with the number of statements and the seconds.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Literal, Self

import asyncpg

POOL: Final = 10
"""Connections: the default of a node."""
_CALLERS: Final = 64
_ROWS: Final = 512
Operation = Literal["insert", "compare-and-set"]


class BareDriver:
    """The process that makes the statements."""

    def __init__(self, url: str, operation: Operation) -> None:
        """`url`: the database, for asyncpg."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.driver", url, operation],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def run(self, seconds: float) -> float:
        """Return the statements a second."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"run {seconds}\n")
        count, took = json.loads(self._process.stdout.readline())
        return count / took

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


async def _inserts(pool: asyncpg.Pool) -> Callable[[int], Awaitable[None]]:
    statement = await _copy_statement(pool)
    model = await pool.fetchval("SELECT id FROM sessions LIMIT 1")

    async def insert(_: int) -> None:
        await pool.execute(statement, uuid.uuid4(), secrets.token_bytes(32), model)

    return insert


async def _updates(pool: asyncpg.Pool) -> Callable[[int], Awaitable[None]]:
    statement = await _copy_statement(pool)
    model = await pool.fetchval("SELECT id FROM sessions LIMIT 1")
    rows = [(uuid.uuid4(), secrets.token_bytes(32)) for _ in range(_ROWS)]
    for row in rows:
        await pool.execute(statement, *row, model)

    async def compare_and_set(number: int) -> None:
        # Each caller has its own rows, so no statement waits for the lock of another one.
        place = number % _ROWS
        key, old = rows[place]
        new = secrets.token_bytes(32)
        changed = await pool.fetchrow(
            "UPDATE sessions SET generation = generation + 1, refresh_hash = $3 "
            "WHERE id = $1 AND refresh_hash = $2 RETURNING *",
            key,
            old,
            new,
        )
        assert changed is not None
        rows[place] = (key, new)

    return compare_and_set


async def _copy_statement(pool: asyncpg.Pool) -> str:
    """Return an insertion of a copy of session $3 with id $1 and hash $2."""
    columns = [
        row["column_name"]
        for row in await pool.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND table_name = 'sessions'"
        )
    ]
    values = ", ".join({"id": "$1", "refresh_hash": "$2"}.get(name, name) for name in columns)
    return f"INSERT INTO sessions ({', '.join(columns)}) SELECT {values} FROM sessions WHERE id = $3"


async def _run(operation: Callable[[int], Awaitable[None]], seconds: float) -> tuple[int, float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    until = began + seconds

    async def call(caller: int) -> int:
        count = 0
        while loop.time() < until:
            await operation(caller + _CALLERS * (count % (_ROWS // _CALLERS)))
            count += 1
        return count

    counts = await asyncio.gather(*(call(caller) for caller in range(_CALLERS)))
    return sum(counts), loop.time() - began


async def _main(url: str, name: str) -> None:
    async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as pool:
        operation = await (_inserts if name == "insert" else _updates)(pool)
        loop = asyncio.get_running_loop()
        lines = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            print(json.dumps(await _run(operation, float(line.split()[1]))), flush=True)


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1], sys.argv[2]))
