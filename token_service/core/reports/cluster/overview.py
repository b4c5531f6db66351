"""GetOverview."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.clients.registry import ClientRegistry
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT, RotationRules
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.reports.cluster.nodes import JOBS, Cluster, ClusterNodes, RunningNode
from token_service.core.reports.cluster.problems import Problem, ServiceState, find_problems
from token_service.core.reports.cluster.propagation import PropagationSummary, summarize
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.sessions.selection import SessionReach
from token_service.core.subscribers.reports import behind_in, lowest_in, silent_in
from token_service.errors import OverloadedError
from token_service.tokens.revocation import Cursor

_COUNT_INTERVAL: Final = 30.0
"""Seconds for which the number of active sessions is kept, because counting them reads many rows."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What does not change while a node runs."""

    version: str
    schema_revision: str
    issuer: str
    rotation: RotationRules


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A signing key, and the time of its next planned change; None: none is planned."""

    key: StoredSigningKey
    next_change_time: float | None


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A background job that one node does for all."""

    name: str
    node_id: str
    """The node that does it; empty: no node."""
    last_run_time: float | None
    """The last completed run of a running node; None: none yet."""
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The state of the service."""

    facts: ServiceFacts
    head: Cursor
    nodes: Sequence[RunningNode]
    connected: int
    behind: int
    silent: int
    propagation: PropagationSummary
    revocations: int
    sessions: SessionReach
    """The live sessions; their number is an estimate if there are many."""
    clients_active: int
    keys: Sequence[KeyEntry]
    """The active key first."""
    jobs: Sequence[JobEntry]
    policies_revision: int
    problems: Sequence[Problem]


class ClusterOverview:
    """The state of the whole service on one page."""

    def __init__(
        self,
        facts: ServiceFacts,
        nodes: ClusterNodes,
        read_index: ReadIndex,
        replica: Replica,
        keyring: Keyring,
        clients: ClientRegistry,
        backlogs: Backlogs,
        clock: Clock,
    ) -> None:
        self._facts = facts
        self._nodes = nodes
        self._read_index = read_index
        self._replica = replica
        self._keyring = keyring
        self._clients = clients
        self._backlogs = backlogs
        self._clock = clock

    async def get(self, caller: Caller) -> Overview:
        """Return the overview. Raises `PermissionDeniedError` and `StoreUnavailableError`."""
        admit(caller, UseCase.GET_OVERVIEW)
        cluster = await self._nodes.read()
        place = await self._read_index.head()  # after the reports, so that no subscriber is ahead of it
        head = Cursor(place.epoch, place.sequence)
        reports = [node.report for node in cluster.nodes]
        keys = self._keyring.signing_keys()
        logouts = await self._backlogs.logouts()
        silent = sum(map(silent_in, reports))
        behind = sum(behind_in(report, head) for report in reports)
        state = ServiceState(
            now=self._clock.now(),
            nodes=cluster.nodes,
            leases=cluster.holders.keys(),
            silent=silent,
            behind=behind,
            behind_for=max((node.details.behind_for for node in cluster.nodes), default=0.0),
            keys=keys,
            rotation=self._facts.rotation,
            logouts=logouts,
            clients=len(self._clients),
            webhooks=await self._backlogs.failing_webhooks(),
        )
        return Overview(
            facts=self._facts,
            head=head,
            nodes=cluster.nodes,
            connected=sum(report.connected for report in reports),
            behind=behind,
            silent=silent,
            propagation=summarize(
                (node.details.reached for node in cluster.nodes if node.report.epoch == head.epoch),
                min((lowest_in(report, head.epoch) for report in reports), default=inf),
            ),
            revocations=len(self._replica.revocations),
            sessions=await self._backlogs.sessions(),
            clients_active=self._clients.active,
            keys=key_entries(keys, self._facts.rotation),
            jobs=_jobs(cluster, logouts),
            policies_revision=max(
                (node.details.signals.policies_revision for node in cluster.nodes), default=0
            ),
            problems=find_problems(state),
        )


class Backlogs:
    """Numbers of rows that an overview shows."""

    def __init__(
        self,
        count_logouts: Callable[[], Awaitable[int]],
        count_sessions: Callable[[float], Awaitable[SessionReach]],
        failing_webhooks: Callable[[], Awaitable[Sequence[str]]],
        clock: Clock,
    ) -> None:
        """`count_logouts` returns the logouts to be delivered, `count_sessions` counts the sessions that are live at a time,
        `failing_webhooks` returns the ids of the webhooks whose deliveries fail.
        """
        self.logouts: Final = count_logouts
        self.failing_webhooks: Final = failing_webhooks
        self._count_sessions = count_sessions
        self._clock = clock
        self._sessions = SessionReach()
        self._was_counted = False
        self._first_count = asyncio.Lock()
        self._counted_at = -inf

    async def sessions(self) -> SessionReach:
        """Return the live sessions, counted at most 30 s ago, or longer ago while many other counts wait.

        Raises `StoreUnavailableError`, and `OverloadedError` if they were never counted.
        """
        if self._was_counted:
            return await self._latest()
        async with self._first_count:  # there is no earlier count that concurrent calls could return
            return await self._latest()

    async def _latest(self) -> SessionReach:
        if self._clock.monotonic() - self._counted_at >= _COUNT_INTERVAL:
            self._counted_at = (
                self._clock.monotonic()
            )  # before the count, so that concurrent calls do not count
            try:
                self._sessions = await self._count_sessions(self._clock.now())
                self._was_counted = True
            except OverloadedError:
                self._counted_at = -inf
                if not self._was_counted:
                    raise
            except BaseException:
                self._counted_at = -inf
                raise
        return self._sessions


def _jobs(cluster: Cluster, logouts: int) -> Sequence[JobEntry]:
    ran: dict[str, float] = {}
    for node in cluster.nodes:
        for lease, time in node.details.ran:
            ran[lease] = max(time, ran.get(lease, time))
    backlogs = {
        "logouts": logouts,
        "audit": sum(node.details.signals.audit_waiting for node in cluster.nodes),
    }
    return [
        JobEntry(name, cluster.holders.get(lease, ""), ran.get(lease), backlogs.get(lease, 0))
        for lease, name in JOBS.items()
    ]


_ORDER: Final = (
    SigningKeyState.ACTIVE,
    SigningKeyState.PREPARED,
    SigningKeyState.RETIRED,
    SigningKeyState.REVOKED,
)


def key_entries(keys: Sequence[StoredSigningKey], rules: RotationRules) -> Sequence[KeyEntry]:
    """Return the keys, the active one first, with the times of their planned changes."""
    ordered = sorted(keys, key=lambda key: _ORDER.index(key.state))
    replaced = [
        _since(key) + rules.period
        for key in ordered
        if key.state is SigningKeyState.ACTIVE and key.algorithm is rules.algorithm
    ]
    next_activation = min(replaced, default=None)
    return [KeyEntry(key, _next_change(key, next_activation)) for key in ordered]


def _next_change(key: StoredSigningKey, next_activation: float | None) -> float | None:
    if key.state in {SigningKeyState.ACTIVE, SigningKeyState.PREPARED}:
        return next_activation
    if key.state is SigningKeyState.RETIRED and key.retire_time is not None:
        return key.retire_time + PUBLISHED_AFTER_RETIREMENT
    return None  # a revoked key is published no more


def _since(key: StoredSigningKey) -> float:
    return key.create_time if key.activate_time is None else key.activate_time
