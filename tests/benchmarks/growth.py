"""The cost of a full database: the same calls with few rows and with many."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import shutil
import sqlite3
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from uuid import UUID

import asyncpg

from tests.benchmarks.duel import Effort, Side, duel
from tests.benchmarks.load import Load
from tests.benchmarks.rpcs import (
    DISTINCT,
    Target,
    access_request,
    refresh_request,
    session_request,
    validate_request,
)
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases, driver_url
from tests.support.processes import ServiceProcess
from tests.support.token_mint import AUDIENCE, ISSUER, Mint
from token_service.app.administration import administer_keys
from token_service.config import load_settings
from token_service.config.settings import DATABASE_FILE
from token_service.stores.sql.schema import sessions
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.key_set import KeySet
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.revocation import Revocation, RevocationTarget
from token_service.tokens.revocation_set import RevocationSet
from token_service.tokens.secret import Secret
from token_service.tokens.verifier import IssuerRules, Verifier, check_audience, check_times
from token_service.v1 import token_service_pb2 as pb

FEW_SESSIONS = 10_000
MANY_SESSIONS = 1_000_000
MANY_REVOCATIONS = 1_000_000

_CALLERS: dict[str, object] = {"connections": 2, "concurrency": 2}
"""Few enough to measure the duration of a call and not its wait for other calls."""
_SAMPLE = 10_000
"""Sessions to refresh, at random places of the table."""
_START = 120
"""Seconds that a node may take to load a long log."""


def refresh_growth(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure RefreshToken with 10,000 sessions and with a million."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        many, few = (
            stack.enter_context(_Filled(postgres, directory, count))
            for count in (MANY_SESSIONS, FEW_SESSIONS)
        )
        sides = [stack.enter_context(filled.load()) for filled in (many, few)]
        outcome = duel(
            Side(sides[0], many.service.pid),
            Side(sides[1], few.service.pid),
            rounds=effort.rounds,
            seconds=effort.seconds,
        )
    ours, reference = outcome.p50_cells
    yield Row(
        f"RefreshToken p50 at {MANY_SESSIONS:,} sessions",
        ours,
        f"at {FEW_SESSIONS:,}: {reference}",
        outcome.p50,
        at_most=1.3,
    )


class _Filled:
    """A service whose database has `count` sessions with known refresh tokens.

    The secret of each token is the hash of its number.
    """

    def __init__(self, postgres: PostgresDatabases, directory: Path, count: int) -> None:
        self._count = count
        self._directory = directory
        self._url = postgres.create_database()
        self._env = {
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_DATABASE_URL": self._url,
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": b64encode(secrets.token_bytes(32)).decode(),
        }
        self.service = ServiceProcess(env=self._env)

    def __enter__(self) -> Self:
        try:
            self.service.start()
            Target(self.service, self._directory).call("IssueToken", session_request().SerializeToString())
            self.service.terminate()
            asyncio.run(fill_sessions(self._url, self._count))
            self._mac_keys = asyncio.run(self._load_mac_keys())
            self.service.start()
        except BaseException:
            self.service.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.service.close()

    def load(self) -> Load:
        """Return a load that refreshes sessions at random places."""
        chosen = random.sample(range(1, self._count + 1), min(_SAMPLE, self._count))
        requests = [refresh_request(self._token(number)).SerializeToString() for number in chosen]
        target = Target(self.service, self._directory)
        return target.load("RefreshToken", requests, replies="refresh", **_CALLERS)

    def _token(self, number: int) -> str:
        session_id = UUID(hashlib.md5(b"session%d" % number).hexdigest())
        secret = Secret(hashlib.sha256(b"secret%d" % number).digest())
        token = OpaqueToken(TokenKind.REFRESH, self._mac_keys.active, session_id, 0, secret)
        return token.format(self._mac_keys)

    async def _load_mac_keys(self) -> MacKeys:
        settings = load_settings({}, {**self._env, "TOKEN_SERVICE_DATA_DIR": str(self.service.data_dir)})
        async with administer_keys(settings) as keys:
            return keys.keyring.mac_keys


async def fill_sessions(url: str, count: int) -> None:
    """Copy the only session of a database of PostgreSQL, with a different id, subject and token for each copy."""
    changed = {
        "id": "md5('session' || n)::uuid",
        "subject": "'user-' || n",
        "refresh_hash": "sha256(sha256(convert_to('secret' || n, 'UTF8')))",
    }
    columns = [column.name for column in sessions.c]
    values = ", ".join(changed.get(name, f"model.{name}") for name in columns)
    connection = await asyncpg.connect(driver_url(url))
    try:
        await connection.execute(
            f"INSERT INTO sessions ({', '.join(columns)}) SELECT {values} "
            f"FROM (SELECT * FROM sessions LIMIT 1) model, generate_series(1, {count}) n",
            timeout=600,
        )
        await connection.execute("VACUUM ANALYZE sessions", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)
    finally:
        await connection.close()


def validate_growth(effort: Effort) -> Iterator[Row]:
    """Measure ValidateToken with an empty revocation set and with a million token ids."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        few_dir, many_dir = directory / "few", directory / "many"
        env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}
        with ServiceProcess(env=env, data_dir=few_dir) as service:
            replies = Target(service, directory).many(
                "IssueToken", access_request().SerializeToString(), DISTINCT
            )
            service.terminate()
        requests = [
            validate_request(pb.IssueTokenResponse.FromString(reply).access_token).SerializeToString()
            for reply in replies
        ]
        shutil.copytree(few_dir, many_dir)
        fill_log(many_dir / DATABASE_FILE, MANY_REVOCATIONS)
        with ExitStack() as stack:
            few, many = (
                stack.enter_context(ServiceProcess(env=env, data_dir=path, ready_timeout=_START))
                for path in (few_dir, many_dir)
            )
            sides = []
            for name, service in (("many", many), ("few", few)):
                place = directory / f"requests-{name}"
                place.mkdir()
                load = Target(service, place).load("ValidateToken", requests, **_CALLERS)
                sides.append(Side(stack.enter_context(load), service.pid))
            outcome = duel(*sides, rounds=effort.rounds, seconds=effort.seconds)
            again = [Target(service, directory).call("ValidateToken", requests[0]) for service in (many, few)]
            assert all(pb.ValidateTokenResponse.FromString(reply).active for reply in again)
    ours, reference = outcome.p50_cells
    yield Row(
        f"ValidateToken p50 at {MANY_REVOCATIONS:,} revocations",
        ours,
        f"at 0: {reference}",
        outcome.p50,
        at_most=1.2,
    )


def fill_log(path: Path, count: int) -> None:
    """Append token ids to the log of a stopped service, as if they were revoked with tokens of the last hour."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("BEGIN")
        now = int(time.time())
        connection.execute(
            "INSERT INTO revocations (sequence, revoke_time, expire_time, token_expire_time, target, reason, value, comment) "
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT i, :now * 1000000, (:now + 600 + i % 3000 + 300) * 1000000, :now + 600 + i % 3000, 1, 1, "
            "lower(hex(randomblob(11))), '' FROM n".replace("?", str(count)),
            {"now": now},
        )
        connection.execute("UPDATE log_head SET sequence = ?", (count,))
        connection.execute("COMMIT")
    connection.close()


def set_growth(effort: Effort) -> Iterator[Row]:
    """Measure verification and look-up in this process, with an empty set and with a million token ids."""
    now = time.time()
    mint = Mint("RS256")
    verifier = Verifier([(IssuerRules(ISSUER, frozenset({Algorithm.RS256})), KeySet.from_jwks([mint.jwk]))])
    tokens = [mint.token(now, exp=int(now) + 600 + number) for number in range(500)]
    empty, full = RevocationSet(), RevocationSet()
    for number in range(MANY_REVOCATIONS):
        expiry = int(now) + 600 + number % 3000
        value = os.urandom(11).hex()
        full.apply(
            Revocation(
                number + 1, RevocationTarget.TOKEN_ID, value, now, expiry + 300, token_expire_time=expiry
            )
        )

    def validate(revocations: RevocationSet) -> None:
        for token in tokens:
            claims = verifier.verify(token)
            check_times(claims, now)
            check_audience(claims, AUDIENCE)
            assert revocations.find(claims) is None

    verified = [verifier.verify(token) for token in tokens]

    def find(revocations: RevocationSet) -> None:
        for claims in verified:
            revocations.find(claims)

    rounds = effort.rounds * 4
    many, few = _best(lambda: validate(full), lambda: validate(empty), rounds)
    found_many, found_few = _best(lambda: find(full), lambda: find(empty), rounds)
    count = len(tokens)
    yield Row(
        f"verify and look up, in process, at {MANY_REVOCATIONS:,} revocations",
        f"{many / count * 1e6:.1f} us",
        f"at 0: {few / count * 1e6:.1f} us",
        many / few,
        at_most=1.2,
        note=f"the look-up alone {found_many / count * 1e6:.2f} us, at 0: {found_few / count * 1e6:.2f} us",
    )


def _best(first: Callable[[], None], second: Callable[[], None], rounds: int) -> Sequence[float]:
    """Return the shortest time of each in `rounds` turns, in seconds."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for number, work in enumerate((first, second)):
            began = time.perf_counter()
            work()
            best[number] = min(best[number], time.perf_counter() - began)
    return best
