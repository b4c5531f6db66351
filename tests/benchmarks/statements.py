"""The statements of a call, counted and timed by the database itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

import asyncpg

from tests.benchmarks.duel import Effort
from tests.benchmarks.rpcs import Target, refresh_request, session_request, target
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresServer, database_name, driver_url
from token_service.v1 import token_service_pb2 as pb

_CALLS: Final = 100
_LINE: Final = re.compile(
    r"LOG:  duration: ([\d.]+) ms  (?:execute|bind) ?[^:]*: (.*)|LOG:  duration: ([\d.]+) ms  statement: (.*)"
)
_NAME: Final = re.compile(
    r"(?:WITH .*?\b)?(UPDATE|INSERT|SELECT|DELETE|BEGIN|COMMIT|ROLLBACK|SET|LOCK|NOTIFY)(?: INTO| TABLE)?(?:.*? FROM)? ?(\w*)"
)
_BACKGROUND: Final = frozenset({"log_head", "leases", "nodes", "event_log_head"})
"""Tables that a node reads or writes in the background, without calls."""


@dataclass(frozen=True)
class _Counted:
    """What the calls did. `statements`: how many of each; `seconds`: in the server of the database."""

    statements: Counter[str]
    seconds: Mapping[str, float]
    new_rows: int

    def summary(self) -> str:
        """Return all statements, most time first."""
        return ", ".join(
            f"{self.statements[name] / _CALLS:g} x {name} ({seconds / _CALLS * 1e6:.0f} us a call)"
            for name, seconds in sorted(self.seconds.items(), key=itemgetter(1), reverse=True)
        )


def rotation(effort: Effort) -> Iterator[Row]:
    """Count the statements and the new rows of a hundred rotations in sequence."""
    del effort
    token = ""

    def rotate(ours: Target) -> None:
        nonlocal token
        if not token:
            reply = ours.call("IssueToken", session_request().SerializeToString())
            token = pb.IssueTokenResponse.FromString(reply).refresh_token
        reply = ours.call("RefreshToken", refresh_request(token).SerializeToString())
        token = pb.RefreshTokenResponse.FromString(reply).refresh_token

    counted = _count(rotate)
    count = counted.statements.total() / _CALLS
    yield Row(
        "SQL statements for each rotation", f"{count:.2f}", "1", count, at_most=1.0, note=counted.summary()
    )
    rows = counted.new_rows / _CALLS
    yield Row("new rows for each rotation", f"{rows:.2f}", "0", rows, at_most=0.0)


def session(effort: Effort) -> Iterator[Row]:
    """Count the statements of a hundred new sessions in sequence."""
    del effort
    counted = _count(lambda ours: ours.call("IssueToken", session_request().SerializeToString()))
    count = counted.statements.total() / _CALLS
    yield Row("SQL statements for each new session", f"{count:.2f}", "1", note=counted.summary())


def revocation(effort: Effort) -> Iterator[Row]:
    """Count the statements of a hundred revocations in sequence, each confirmed before the next."""
    del effort
    number = 0

    def revoke(ours: Target) -> None:
        nonlocal number
        number += 1
        ours.call("RevokeToken", pb.RevokeTokenRequest(client_id=f"client-{number}").SerializeToString())

    counted = _count(revoke)
    count = counted.statements.total() / _CALLS
    yield Row("SQL statements for each revocation", f"{count:.2f}", note=counted.summary())


def _count(call: Callable[[Target], object]) -> _Counted:
    # An own server, whose log has every statement.
    with PostgresServer() as postgres:
        url = postgres.create_database()
        name = database_name(url)
        _execute(postgres.admin_url, f'ALTER DATABASE "{name}" SET log_min_duration_statement = 0')
        env = {
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_DATABASE_URL": url,
            "TOKEN_SERVICE_JANITOR_INTERVAL": "1h",
        }
        with target(env) as ours:
            for _ in range(10):
                call(ours)  # opens every connection it uses
            rows = _rows(url)
            _settle(postgres)
            seen = len(postgres.log_text())
            for _ in range(_CALLS):
                call(ours)
            _settle(postgres)
            log = postgres.log_text()[seen:]
            grown = _rows(url) - rows
    statements: Counter[str] = Counter()
    seconds: dict[str, float] = defaultdict(float)
    for line in log.splitlines():
        match = _LINE.search(line) if name in line else None
        named = _NAME.match(match[2] or match[4]) if match else None
        if match is None or named is None or named[2] in _BACKGROUND:
            continue
        what = f"{named[1]} {named[2]}".strip()
        seconds[what] += float(match[1] or match[3]) / 1e3
        statements[what] += not line.partition(" ms  ")[2].startswith("bind")
    return _Counted(statements, seconds, grown)


def _settle(postgres: PostgresServer) -> None:
    """Wait until the log has every statement of earlier calls."""
    size = -1
    while (now := len(re.findall("UPDATE|INSERT|BEGIN", postgres.log_text()))) != size:
        size = now
        time.sleep(0.2)


def _rows(url: str) -> int:
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
