"""The time and the memory of a report of a million events."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil

from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases, driver_url
from token_service.app.adapters import audit_keys_of, open_stores
from token_service.config import load_settings, prepare_data_dir
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target

_EVENTS = 1_000_000
_QUICK_EVENTS = 100_000
_LIMIT = 60.0
"""Seconds of a report of a million events."""
_MEMORY = 400
"""Megabytes of the process that makes a report."""
_START = 1_790_000_000.0
_WEEK = 7 * 86_400.0
_BATCH = 2000
_LOGIN = Actor("caller", "spiffe://example.org/login", proof="certificate")
_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def made(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Make the reports of usage and of anomalies on SQLite and on PostgreSQL."""
    count = _EVENTS if effort.rounds > 5 else _QUICK_EVENTS
    for database in ("SQLite", "PostgreSQL"):
        with tempfile.TemporaryDirectory() as directory:
            data = Path(directory) / "data"
            url = "" if database == "SQLite" else driver_url(postgres.create_database())
            asyncio.run(_fill(data, url, count))
            for kind in ("usage", "anomalies"):
                yield from _report(kind, database, data, url, count)


def _report(kind: str, database: str, data: Path, url: str, count: int) -> Iterator[Row]:
    command = [
        sys.executable,
        "-m",
        "token_service",
        "report",
        kind,
        "--from",
        "2026-09-01",
        "--to",
        "2026-11-01",
    ]
    env = {
        **os.environ,
        "TOKEN_SERVICE_DATA_DIR": str(data),
        **({"TOKEN_SERVICE_DATABASE_URL": url} if url else {}),
    }
    began = time.monotonic()
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        watched, memory, used = psutil.Process(process.pid), 0, 0.0
        while process.poll() is None:
            try:
                memory = max(memory, watched.memory_info().rss)
                times = watched.cpu_times()
            except psutil.Error:
                break  # it ended
            used = times.user + times.system
            time.sleep(0.05)
    assert process.returncode == 0
    seconds = (time.monotonic() - began) * _EVENTS / count
    yield Row(
        f"report {kind}, a million events, {database}",
        f"{seconds:.1f} s",
        f"limit {_LIMIT:.0f} s",
        seconds / _LIMIT,
        at_most=1.0,
        note=f"of {count:,} events; {used * _EVENTS / count:.1f} s of one processor for a million",
    )
    yield Row(
        f"memory of it, {kind}, {database}",
        f"{memory / 1e6:.0f} MB",
        f"limit {_MEMORY} MB",
        memory / 1e6 / _MEMORY,
        at_most=1.0,
    )


async def _fill(data: Path, url: str, count: int) -> None:
    settings = load_settings({"data_dir": str(data), **({"database_url": url} if url else {})}, {})
    prepare_data_dir(data)
    random = Random(7)
    async with open_stores(settings, await audit_keys_of(settings), "node-1") as stores:
        await stores.migrate()
        for first in range(0, count, _BATCH):
            await stores.audit.append([
                _event(random, _START + number * _WEEK / count) for number in range(first, min(first + _BATCH, count))
            ])  # fmt: skip


def _event(random: Random, moment: float) -> AuditEvent:
    """Return an event of 50,000 users: nearly always a token, else a reuse, a verdict or a revocation."""
    user, kind = random.randrange(50_000), random.random()
    session = f"{user:08x}-1000-4000-8000-{random.randrange(3):012x}"
    target = Target(
        "token", f"{random.getrandbits(128):032x}", f"user-{user}", session, f"client-{user % 200}"
    )
    origin = Origin(f"198.51.{user % 256}.{random.randrange(256)}", _AGENT)
    action, fields = Action.TOKEN_REFRESHED, {"generation": 7, "classification": "internal"}
    if kind < 0.4:
        action, fields = Action.TOKEN_ISSUED, {"token_types": ["ACCESS"], "classification": "internal"}
    elif kind > 0.98:
        action, fields = Action.REFRESH_TOKEN_REUSED, {"response": "session"}
    elif kind > 0.97:
        evidence = [{"signal": "new_country", "weight": 40, "detail": "DE after FR"}]
        action, fields = Action.RISK_DETECTED, {"score": 40, "action": "alert", "evidence": evidence}
    elif kind > 0.96:
        action, fields = Action.REVOKED, {"cause": "risk"}
    return AuditEvent(action=action, actor=_LOGIN, target=target, origin=origin, fields=fields, time=moment)
