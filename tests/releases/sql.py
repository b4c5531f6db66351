"""Writing and loading the recorded databases."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import asyncpg

from tests.support.postgres import PostgresBinaries, driver_url

# Commands of psql, and settings that servers of other versions lack.
_NOT_SQL = re.compile(r"^(?:\\|SET |SELECT pg_catalog\.set_config).*\n", re.MULTILINE)


def dump_postgres(url: str) -> str:
    """The schema and the rows of a database, as SQL."""
    pg_dump = PostgresBinaries.in_wheel().postgres.with_name("pg_dump")
    done = subprocess.run(
        [pg_dump, "--inserts", "--no-owner", "--no-privileges", driver_url(url)],
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(r"\n{3,}", "\n\n", _NOT_SQL.sub("", done.stdout))


def postgres_rows(url: str, query: str) -> list[int]:
    """Return the first column of a query."""

    async def fetch() -> list[int]:
        connection = await asyncpg.connect(driver_url(url))
        try:
            return [row[0] for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(fetch())


def sqlite_rows(path: Path, query: str) -> list[int]:
    """Return the first column of a query."""
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(query)]


def load_postgres(url: str, dump: Path) -> None:
    """Fill an empty database."""
    statements = dump.read_text()

    async def load() -> None:
        connection = await asyncpg.connect(driver_url(url))
        try:
            await connection.execute(statements)
            # A dump in another server looks like a failover, and these tests are not about one.
            await connection.execute("UPDATE log_head SET server = NULL")
        finally:
            await connection.close()

    asyncio.run(load())


def load_sqlite(path: Path, dump: Path) -> None:
    """Make a database file."""
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text())
    connection.close()
