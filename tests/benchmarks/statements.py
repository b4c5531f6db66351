"""The statements of one rotation, counted by the database itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator

import asyncpg

from tests.benchmarks.duel import Effort
from tests.benchmarks.rpcs import Target, refresh_request, session_request, target
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresServer, database_name, driver_url
from token_service.v1 import token_service_pb2 as pb

_ROTATIONS = 100
_STATEMENT = re.compile(r"LOG:  (?:execute [^:]*|statement): (\w+)(?: INTO| FROM)? ?(\w*)")
_BACKGROUND = frozenset({"log_head", "leases", "nodes"})
"""Tables that a node reads or writes in the background, without calls."""


def rotation(effort: Effort) -> Iterator[Row]:
    """Count the statements and the new rows of a hundred rotations in sequence."""
    del effort
    # An own server, whose log has every statement.
    with PostgresServer() as postgres:
        url = postgres.create_database()
        _execute(postgres.admin_url, f"ALTER DATABASE \"{database_name(url)}\" SET log_statement = 'all'")
        env = {
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_DATABASE_URL": url,
            "TOKEN_SERVICE_JANITOR_INTERVAL": "1h",
        }
        with target(env) as ours:
            reply = ours.call("IssueToken", session_request().SerializeToString())
            token = pb.IssueTokenResponse.FromString(reply).refresh_token
            token = _rotate(ours, token, 10)  # opens every connection it uses
            rows = _count(url)
            _settle(postgres)
            seen = len(postgres.log_text())
            _rotate(ours, token, _ROTATIONS)
            _settle(postgres)
            log = postgres.log_text()[seen:]
            grown = _count(url) - rows
    lines = (line for line in log.splitlines() if database_name(url) in line)
    found = Counter(
        f"{match[1]} {match[2]}"
        for line in lines
        if (match := _STATEMENT.search(line)) and match[2] not in _BACKGROUND
    )
    count = sum(found.values()) / _ROTATIONS
    seen_statements = ", ".join(f"{number} x {what}" for what, number in found.most_common())
    yield Row(
        "SQL statements for each rotation", f"{count:.2f}", "1", count, at_most=1.0, note=seen_statements
    )
    yield Row("new rows for each rotation", f"{grown / _ROTATIONS:.2f}", "0", grown / _ROTATIONS, at_most=0.0)


def _rotate(ours: Target, token: str, times: int) -> str:
    for _ in range(times):
        reply = ours.call("RefreshToken", refresh_request(token).SerializeToString())
        token = pb.RefreshTokenResponse.FromString(reply).refresh_token
    return token


def _settle(postgres: PostgresServer) -> None:
    """Wait until the log has every statement of earlier calls."""
    size = -1
    while (now := len(re.findall("UPDATE|INSERT|BEGIN", postgres.log_text()))) != size:
        size = now
        time.sleep(0.2)


def _count(url: str) -> int:
    """Count the rows of all tables that a call may write to."""
    return sum(
        _execute(url, f"SELECT count(*) FROM {table}")
        for table in ("sessions", "revocations", "revocation_floors")
    )


def _execute(url: str, statement: str) -> int:
    async def run() -> int:
        connection = await asyncpg.connect(driver_url(url), timeout=10)
        try:
            return await connection.fetchval(statement) or 0
        finally:
            await connection.close()

    return asyncio.run(run())
