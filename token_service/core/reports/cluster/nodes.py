"""ListNodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.leases import LeaseStore
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import NodeReport
from token_service.core.subscribers.reports import Reports

JOBS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "janitor": "janitor",
        "keys": "key-rotation",
        "logouts": "logout-delivery",
        "audit": "audit-checkpoint",
    }
)
"""The name of each job by its lease."""


@dataclass(frozen=True, slots=True)
class RunningNode:
    """A running node: its last report, and the jobs that it does for all."""

    report: NodeReport
    jobs: Sequence[str]
    details: NodeDetails = field(default_factory=NodeDetails)
    """Empty for a node of an earlier version, which does not describe itself."""

    @property
    def problems(self) -> Sequence[str]:
        """What keeps the node from being ready, and other problems."""
        signals = self.details.signals
        failing = ["the policy file is unusable; the policies read earlier stay in force"]
        return [*signals.not_ready, *(failing if signals.policy_file_failing else ())]

    @property
    def staleness(self) -> float:
        """Seconds since its replica was proven complete."""
        return self.details.staleness + self.report.age


@dataclass(frozen=True, slots=True)
class Cluster:
    """The running nodes by their ids, and the one that holds each lease."""

    nodes: Sequence[RunningNode]
    holders: Mapping[str, str]


class ClusterNodes:
    """The running nodes, from their reports."""

    def __init__(self, reports: Reports, leases: LeaseStore) -> None:
        self._reports = reports
        self._leases = leases

    async def list(self, caller: Caller) -> Sequence[RunningNode]:
        """List the running nodes by their ids. Raises `PermissionDeniedError` and `StoreUnavailableError`."""
        admit(caller, UseCase.LIST_NODES)
        return (await self.read()).nodes

    async def read(self) -> Cluster:
        """Return the running nodes and their leases. Raises `StoreUnavailableError`."""
        reports = await self._reports.of_all()
        running = {report.node_id for report in reports}
        # The lease of a node that was killed lasts for some time.
        holders = {
            lease: holder for lease, holder in (await self._leases.holders()).items() if holder in running
        }
        nodes = [
            RunningNode(
                report,
                sorted(name for lease, name in JOBS.items() if holders.get(lease) == report.node_id),
                report.details or NodeDetails(),
            )
            for report in reports
        ]
        return Cluster(nodes, holders)
