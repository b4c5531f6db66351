"""The signals of a node's edges and adapters, which the node reports to the other nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Final

from token_service.app.access import Access
from token_service.app.core import Core
from token_service.certificates.server import TlsFiles, expiry
from token_service.core.events.queue import RowQueue
from token_service.core.subscribers.node_details import NodeSignals, RedisState
from token_service.stores.sql.stores import SqlStores

_INTERVAL: Final = 60.0
"""Seconds between two readings of the certificate, whose file may be replaced at any time."""


class Signals:
    """Reads the signals of a node. `run` keeps the expiry of its certificate up to date."""

    def __init__(
        self, core: Core, access: Access, stores: SqlStores, rows: RowQueue, tls: TlsFiles | None
    ) -> None:
        self._core = core
        self._access = access
        self._stores = stores
        self._rows = rows
        self._tls = tls
        self._expire_time: float | None = None
        self.problems: Callable[[], Sequence[str]] = list
        """Returns why the node is not ready. The node sets it."""

    def read(self) -> NodeSignals:
        """Return the signals now, without I/O."""
        pool = self._stores.pool
        return NodeSignals(
            not_ready=tuple(self.problems()),
            redis=self._redis(),
            database_connections=pool.used,
            database_connections_max=pool.most,
            database_waiting=pool.waiting,
            audit_waiting=len(self._rows),
            certificate_expire_time=self._expire_time,
            policy_file_failing=bool(self._access.policy_problem),
            policies_revision=max(0, self._core.overrides.revision),
        )

    async def run(self) -> None:
        """Read the expiry of the certificate every minute until cancelled."""
        while True:
            if self._tls is not None:
                time = await asyncio.to_thread(expiry, self._tls.certificate_chain)
                if time is not None and isfinite(
                    time
                ):  # otherwise the last usable certificate stays in force
                    self._expire_time = time
            await asyncio.sleep(_INTERVAL)

    def _redis(self) -> RedisState:
        mirroring = self._core.mirroring
        if mirroring is None:
            return RedisState.NONE
        return RedisState.FAILING if mirroring.is_failing else RedisState.CONNECTED
