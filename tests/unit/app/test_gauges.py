"""Gauges that need more than a node in a test: lost audit events and certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.certificates import Authority
from tests.support.deadline import eventually
from tests.unit.core.node import Node
from token_service.app.metering.counting import count_core
from token_service.app.metering.gauges import Gauges, Observed, _expiries
from token_service.certificates.server import TlsFiles
from token_service.clock import SystemClock
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.core.events.queue import MAX_QUEUED, RowQueue
from token_service.telemetry import Metrics
from token_service.telemetry.board import Board


async def test_queued_and_lost_audit_events_are_shown() -> None:
    async def append(_: Sequence[AuditEvent]) -> None:
        """Write nothing."""

    board = Board()
    metrics = Metrics({}, "node", board.segments[0])
    node = Node(SystemClock())
    await node.start()
    stores: Any = SimpleNamespace(
        pool=SimpleNamespace(used=1, idle=2, most=3, waiting=4, on_wait=lambda _: None),
        queued=(5, 6),
        has_lock_waits=False,
    )
    rows = RowQueue(append, SystemClock())
    problems: list[str] = []
    observed = Observed(
        core=node.core,
        access=SimpleNamespace(policy_problem=""),  # type: ignore[arg-type]
        feed=(),  # type: ignore[arg-type]
        event_readers=range(3),
        stores=stores,
        rows=rows,
        lag=count_core(metrics, node.core, stores),
        tls=None,
        problems=lambda: problems,
    )
    gauges = Gauges(metrics, observed)
    event = AuditEvent(action=Action.PERMISSION_DENIED, actor=Actor.system("test"))
    for _ in range(MAX_QUEUED + 3):
        rows.put(event)
    gauges.update()
    await rows.flush()
    gauges.update()
    rows.put(event)
    gauges.update()
    found = {(series.name, *series.labels): value for _, series, (value, *_) in board.read()}
    assert found["token_service.audit.lost",] == 3
    assert found["token_service.audit.queued",] == 1
    assert found["db.client.connection.count", "engine", "used"] == 1
    assert found["db.client.connection.count", "engine", "idle"] == 2
    assert found["db.client.connection.max", "engine"] == 3
    assert found["db.client.connection.pending_requests", "engine"] == 4
    assert found["token_service.db.queued", "read"] == 5
    assert found["token_service.db.queued", "write"] == 6
    assert found["token_service.worker.starts",] == 1
    assert found["token_service.event_readers",] == 3
    assert found["token_service.audit.failing",] == 0
    assert found["token_service.ready",] == 1
    await node.core.ports.stores.audit.append([event])
    await asyncio.sleep(0.01)
    assert ("token_service.event_log.waiting",) not in found
    task = asyncio.create_task(gauges.run())
    await eventually(lambda: gauges._events_wait is not None)
    task.cancel()
    rows.is_failing = True
    problems.append("gRPC does not listen")
    gauges.update()
    found = {(series.name, *series.labels): value for _, series, (value, *_) in board.read()}
    assert found["token_service.audit.failing",] == 1
    assert 0.01 <= found["token_service.event_log.waiting",] < 60
    assert found["token_service.ready",] == 0


def test_certificates_expire_with_the_first_one_of_their_file(tmp_path: Path) -> None:
    authority, clients, others = Authority("servers"), Authority("clients"), Authority("others")
    files = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    server = authority.server()
    files.certificate_chain.write_bytes(server.certificate)
    (tmp_path / "ca.pem").write_bytes(clients.certificate + others.certificate)
    found = _expiries(files)
    now = SystemClock().now()
    assert set(found) == {"server", "client_authority"}
    assert all(now < time < now + 3650 * 86_400 for time in found.values())
    (tmp_path / "ca.pem").write_bytes(b"nothing")
    assert set(_expiries(files)) == {"server"}
    assert _expiries(None) == {}
