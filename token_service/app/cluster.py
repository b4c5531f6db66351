"""Composition of the use cases about the whole service: its nodes, their subscribers and its problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from token_service.app.ports import CoreOptions, Stores
from token_service.clock import Clock
from token_service.core.clients.registry import ClientRegistry
from token_service.core.keys.keyring import Keyring
from token_service.core.reports.cluster.arrivals import ClusterArrivals
from token_service.core.reports.cluster.description import Description
from token_service.core.reports.cluster.nodes import ClusterNodes
from token_service.core.reports.cluster.overview import Backlogs, ClusterOverview, ServiceFacts
from token_service.core.reports.cluster.subscribers import ClusterSubscribers
from token_service.core.revocation.propagation import Propagation
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.selection import EVERY_SESSION, LIVE_SAMPLE, SessionReach
from token_service.core.subscribers.lists import SubscriberLists
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.validations import ValidationReports


class Job(Protocol):
    """A job that one node does for all."""

    @property
    def ran_at(self) -> float | None:
        """The time of its last completed run at this node, in seconds since the Unix epoch; None: none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterParts:
    """What the use cases are made of."""

    stores: Stores
    clock: Clock
    reports: Reports
    subscribers: Subscribers
    validations: ValidationReports
    replica: Replica
    read_index: ReadIndex
    tailer: Tailer
    keyring: Keyring
    clients: ClientRegistry
    jobs: Mapping[str, Job | None]
    """The jobs that one node does for all, by their leases; None: the node never does it."""


@dataclass(frozen=True, slots=True)
class ClusterUseCases:
    """The use cases, and how this node describes itself."""

    description: Description
    propagation: Propagation
    nodes: ClusterNodes
    subscribers: ClusterSubscribers
    arrivals: ClusterArrivals
    overview: ClusterOverview


def make_cluster_use_cases(parts: ClusterParts, options: CoreOptions) -> ClusterUseCases:
    """Compose the use cases, without I/O. From then on the reports of this node describe it."""
    clock, reports, replica = parts.clock, parts.reports, parts.replica
    propagation = Propagation(replica, parts.subscribers, clock)

    def ran() -> Mapping[str, float]:
        return {
            lease: job.ran_at
            for lease, job in parts.jobs.items()
            if job is not None and job.ran_at is not None
        }

    description = Description(options.identity, replica, parts.tailer, parts.keyring, clock, ran, propagation)
    lists = SubscriberLists(
        options.node_id, parts.stores.nodes, reports, parts.subscribers, parts.validations, clock
    )
    reports.describe_by(description.details)
    reports.answer_by(lists)
    nodes = ClusterNodes(reports, parts.stores.leases)
    facts = ServiceFacts(
        options.identity.version, options.identity.schema_revision, options.issuer, options.rotation
    )

    async def count_logouts() -> int:
        return (await parts.stores.logouts.backlog()).count

    async def count_sessions(now: float) -> SessionReach:
        return await parts.stores.selections.reach(EVERY_SESSION, live_at=now, sample=LIVE_SAMPLE)

    async def failing_webhooks() -> Sequence[str]:
        entries = await parts.stores.webhooks.list()
        return [entry.webhook.webhook_id for entry in entries if entry.is_failing]

    return ClusterUseCases(
        description,
        propagation,
        nodes,
        ClusterSubscribers(lists, parts.read_index),
        ClusterArrivals(reports),
        ClusterOverview(
            facts,
            nodes,
            parts.read_index,
            replica,
            parts.keyring,
            parts.clients,
            Backlogs(count_logouts, count_sessions, failing_webhooks, clock),
            clock,
        ),
    )
