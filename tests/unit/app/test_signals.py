"""The signals that a node reports to the other nodes."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from tests.support.certificates import Authority
from tests.support.deadline import eventually
from token_service.app import signals as module
from token_service.app.signals import Signals
from token_service.certificates.server import TlsFiles, expiry
from token_service.core.subscribers.node_details import NodeSignals, RedisState


def signals(tls: TlsFiles | None = None, mirroring: Any = None) -> Any:
    made: Any = Signals(
        SimpleNamespace(mirroring=mirroring, overrides=SimpleNamespace(revision=4)),  # type: ignore[arg-type]
        SimpleNamespace(policy_problem="line 3"),  # type: ignore[arg-type]
        SimpleNamespace(pool=SimpleNamespace(used=3, most=7, waiting=2)),  # type: ignore[arg-type]
        ["event"],  # type: ignore[arg-type]
        tls,
    )
    return made


def test_signals_are_those_of_the_parts() -> None:
    made = signals()
    made.problems = lambda: ["the disk is full"]
    assert made.read() == NodeSignals(
        not_ready=("the disk is full",),
        redis=RedisState.NONE,
        database_connections=3,
        database_connections_max=7,
        database_waiting=2,
        audit_waiting=1,
        policy_file_failing=True,
        policies_revision=4,
    )


def test_redis_is_failing_while_the_mirror_is() -> None:
    mirroring = SimpleNamespace(is_failing=False)
    made = signals(mirroring=mirroring)
    assert made.read().redis is RedisState.CONNECTED
    mirroring.is_failing = True
    assert made.read().redis is RedisState.FAILING


async def test_expiry_follows_the_replaced_certificate_and_survives_an_unusable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[float | None] = []

    def reading(path: Path) -> float | None:
        found.append(expiry(path))
        return found[-1]

    monkeypatch.setattr(module, "_INTERVAL", 0.01)
    monkeypatch.setattr(module, "expiry", reading)
    chain = tmp_path / "chain.pem"
    made = signals(TlsFiles(chain, tmp_path / "key.pem"))

    def is_reported(time: float) -> bool:
        return made.read().certificate_expire_time == time

    task = asyncio.create_task(made.run())
    try:
        for lifetime in (1000.0, 5000.0):
            certificate = Authority().issue(lifetime=lifetime).certificate
            chain.write_bytes(certificate)
            leaf = x509.load_pem_x509_certificates(certificate)[0]
            expire_time = leaf.not_valid_after_utc.timestamp()
            await eventually(partial(is_reported, expire_time))
        chain.write_text("nothing")
        await eventually(lambda: found[-2:] == [None, None])
        assert is_reported(max(time for time in found if time is not None))
    finally:
        task.cancel()
