"""The readiness of a node: of this process, and of the other workers that share its ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from token_service.app.worker_readiness import INTERVAL, WorkerReadiness
from token_service.web.probes import Checks


@dataclass(frozen=True, slots=True)
class Colleagues:
    """The place of this process among the workers of its service."""

    number: int
    readiness: WorkerReadiness


class NodeReadiness:
    """The checks behind the probes of a node."""

    def __init__(self, checks: Callable[[], Checks], colleagues: Colleagues | None) -> None:
        """`checks` returns the conditions of this process besides its listening. `colleagues`: None if it is alone."""
        self._checks = checks
        self._colleagues = colleagues
        self._listening = False
        self._has_started = False

    def started(self) -> None:
        """Note that gRPC listens."""
        self._listening = self._has_started = True
        self._note()

    def stopping(self) -> None:
        """Note that gRPC accepts no more calls."""
        self._listening = False

    async def run(self) -> None:
        """Tell the other workers while this process is ready."""
        while True:
            self._note()
            await asyncio.sleep(INTERVAL)

    def ready(self) -> Checks:
        """Return the conditions for serving calls: those of this process, then one for each worker."""
        return {
            **self._own(),
            **(self._colleagues.readiness.checks() if self._colleagues is not None else {}),
        }

    def problems(self) -> list[str]:
        """Return what keeps this process from serving calls."""
        return [problem for problem in self._own().values() if problem is not None]

    def startup(self) -> Checks:
        """Return the conditions for a complete start."""
        complete = self._has_started and (self._colleagues is None or self._colleagues.readiness.all_started)
        return {"started": None if complete else "not all workers have been ready yet"}

    def _own(self) -> Checks:
        listening = None if self._listening else "gRPC does not listen: the node is starting or stopping"
        return {"grpc": listening, **self._checks()}

    def _note(self) -> None:
        if self._colleagues is not None and not any(self._own().values()):
            self._colleagues.readiness.note(self._colleagues.number)
