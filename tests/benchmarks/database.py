"""The calls that write, beside the limit that their parts compose: a no-op call, a bare statement and a signature.

All three are measured in the same run as the service and take turns with it. The composed limit is
1 / (1 / no-op + 1 / driver + signature): what a server could do that makes no other work.
"""

from __future__ import annotations

import asyncio
import threading
import timeit
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from statistics import median
from typing import Final

import asyncpg

from tests.benchmarks.driver import BareDriver, Operation
from tests.benchmarks.duel import Effort
from tests.benchmarks.load import Load
from tests.benchmarks.noop import Noop, worker
from tests.benchmarks.rpcs import CHAINS, load_at, refresh_request, session_request, target
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases, driver_url
from token_service.v1 import token_service_pb2 as pb

_PART_OF_LIMIT: Final = 0.70
_SAMPLE_EVERY: Final = 0.02
_WARM_UP: Final = 1.0


def session(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure IssueToken of a session against an insertion."""
    what = "IssueToken, access + refresh, RS256, PostgreSQL"
    yield from _rows(what, "RS256", "insert", effort, postgres)


def rotation(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure RefreshToken against a compare-and-set."""
    yield from _rows("RefreshToken, ES256, PostgreSQL", "ES256", "compare-and-set", effort, postgres)


def _rows(
    what: str, algorithm: str, operation: Operation, effort: Effort, postgres: PostgresDatabases
) -> Iterator[Row]:
    url = postgres.create_database()
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": algorithm, "TOKEN_SERVICE_DATABASE_URL": url}
    with ExitStack() as stack:
        ours = stack.enter_context(target(env))
        request = session_request().SerializeToString()
        reply = ours.call("IssueToken", request)
        load: Load
        if operation == "insert":
            method, requests = "IssueToken", [request]
            load = stack.enter_context(ours.load(method, requests))
        else:
            method, requests = "RefreshToken", _chains(ours.many("IssueToken", request, CHAINS))
            load = stack.enter_context(ours.load(method, requests, replies="refresh"))
        noop = stack.enter_context(Noop(method, reply))
        still = stack.enter_context(load_at(noop.address, ours.directory / "noop", method, requests))
        driver = stack.enter_context(BareDriver(driver_url(url), operation))
        waits = Waits(driver_url(url))
        sides: dict[str, Callable[[], float]] = {
            "ours": lambda: _watched(load, waits, effort.seconds),
            "no-op": lambda: still.run(effort.seconds).rate,
            "driver": lambda: driver.run(effort.seconds),
        }
        found = _take_turns(sides, effort.rounds)
    signature = _signature(algorithm)
    limits = [
        1 / (1 / no_op + 1 / bare + signature)
        for no_op, bare in zip(found["no-op"], found["driver"], strict=True)
    ]
    ratio = median(rate / limit for rate, limit in zip(found["ours"], limits, strict=True))
    yield Row(
        f"{what}, by the composed limit",
        f"{median(found['ours']):,.0f}/s",
        f"limit {median(limits):,.0f}/s",
        ratio,
        at_least=_PART_OF_LIMIT,
        note=f"no-op {median(found['no-op']):,.0f}/s, bare asyncpg {operation} {median(found['driver']):,.0f}/s, "
        f"signature {signature * 1e6:.0f} us",
    )
    yield Row(
        f"{what}: part of the time that statements wait for locks",
        f"{waits.part('Lock'):.1%}",
        note=f"states of the connections that execute a statement: {waits.summary()}",
    )


def _chains(replies: list[bytes]) -> list[bytes]:
    tokens = [pb.IssueTokenResponse.FromString(reply).refresh_token for reply in replies]
    return [refresh_request(token).SerializeToString() for token in tokens]


def _take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run()
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
    return found


def _watched(load: Load, waits: Waits, seconds: float) -> float:
    with waits:
        return load.run(seconds).rate


class Waits:
    """Samples of the states of a database's connections, for as long as it is entered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._found: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def part(self, kind: str) -> float:
        """Return the part of all samples of this kind, as `pg_stat_activity.wait_event_type` names it."""
        every = sum(self._found.values())
        return self._found[kind] / every if every else 0.0

    def summary(self) -> str:
        """Return all kinds and their parts, most first."""
        return ", ".join(f"{kind} {self.part(kind):.0%}" for kind, _ in self._found.most_common())

    def __enter__(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._sample()))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._stop.set()
        self._thread.join()

    async def _sample(self) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            while not self._stop.is_set():
                rows = await connection.fetch(
                    "SELECT coalesce(wait_event_type, 'running') AS kind, count(*) AS number "
                    "FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
                    "AND pid <> pg_backend_pid() GROUP BY 1"
                )
                for row in rows:
                    self._found[row["kind"]] += row["number"]
                await asyncio.sleep(_SAMPLE_EVERY)
        finally:
            await connection.close()


def _signature(algorithm: str) -> float:
    """Return the shortest time of a signature in seconds, when nothing else runs."""
    sign = worker(f"sign {algorithm}")
    return min(timeit.repeat(sign, number=50, repeat=50)) / 50
