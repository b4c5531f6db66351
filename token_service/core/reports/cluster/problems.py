"""The problems of the service that need attention: a rule for each, with a stable name and what to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.reports.cluster.nodes import JOBS, RunningNode
from token_service.core.subscribers.node_details import RedisState

DAY: Final = 86_400.0
REPORT_LATE: Final = 5.0
"""Seconds without a report of a node after which this is a problem. After 10 s the node is not listed."""
STALE: Final = 5.0
"""Seconds since the replica of a node was proven complete after which this is a problem."""
BEHIND: Final = 60.0
"""Seconds that the oldest unconfirmed revocation may wait for a subscriber."""
CERTIFICATE_WARNING: Final = 30 * DAY
CERTIFICATE_CRITICAL: Final = 7 * DAY
KEY_GRACE: Final = 3600.0
"""Seconds beside the announce time by which the rotation of a signing key may be late."""
AUDIT_BACKLOG: Final = 5_000
"""Audit events of a node that wait for the database. From 10,000 on events are lost."""
LOGOUT_BACKLOG: Final = 1_000
"""Logouts that wait to be delivered."""
MIXED: Final = 3600.0
"""Seconds that nodes of several versions may run side by side."""
_JOBS_OF_ALL: Final = {lease: job for lease, job in JOBS.items() if lease != "logouts"}
"""The jobs that one node always does. Logouts are delivered only if clients want them."""


class Severity(StrEnum):
    """How urgent a problem is."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """A matter that needs attention."""

    name: str
    """Stable, for alerts."""
    severity: Severity
    message: str
    """What happened, and what to do."""
    node_id: str = ""
    """Empty: the service as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """What the rules judge. Times are in seconds."""

    now: float
    """The present time, since the Unix epoch."""
    nodes: Sequence[RunningNode]
    leases: Collection[str]
    """The leases that a node holds."""
    silent: int = 0
    """The silent subscribers of all nodes."""
    behind: int = 0
    """The subscribers of all nodes that have not confirmed the head of the log."""
    behind_for: float = 0.0
    """The age of the oldest revocation that a subscriber, other than a silent one, has not confirmed."""
    keys: Sequence[StoredSigningKey] = ()
    rotation: RotationRules
    logouts: int = 0
    """The logouts that wait to be delivered."""
    clients: int = 0
    """The registered clients, disabled ones included."""
    webhooks: Sequence[str] = ()
    """The ids of the webhooks whose deliveries fail."""


Rule = Callable[[ServiceState], Iterator[Problem]]


def find_problems(state: ServiceState) -> Sequence[Problem]:
    """Return the problems, the most urgent first."""
    found = [problem for rule in RULES for problem in rule(state)]
    return sorted(found, key=lambda each: each.severity is not Severity.CRITICAL)


def _node_not_ready(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        if reasons := node.details.signals.not_ready:
            yield Problem(
                "node_not_ready",
                Severity.CRITICAL,
                f"the node is not ready: {'; '.join(reasons)}. It should get no calls until this ends; look at its log",
                node.report.node_id,
            )


def _node_silent(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        if node.report.age >= REPORT_LATE:
            yield Problem(
                "node_silent",
                Severity.WARNING,
                f"the node has not reported for {node.report.age:.0f} s. Look whether it is stopped or can't reach the "
                "database; it is dropped from the list after 10 s",
                node.report.node_id,
            )


def _node_stale(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        if node.details.staleness >= STALE:
            yield Problem(
                "node_stale",
                Severity.CRITICAL,
                f"the node last knew the head of the revocation log {node.details.staleness:.0f} s before its report, so "
                "its answers may miss later revocations. Look at its log and at its connection to the database",
                node.report.node_id,
            )


def _subscriber_silent(state: ServiceState) -> Iterator[Problem]:
    if state.silent:
        yield Problem(
            "subscriber_silent",
            Severity.CRITICAL,
            f"{_validators(state.silent)} connected but {_have(state.silent)} not confirmed revocations for 10 s, so waits "
            "leave them out. Find them with `token-service subscribers --behind` and restart them",
        )


def _subscriber_behind(state: ServiceState) -> Iterator[Problem]:
    if state.behind_for >= BEHIND and state.behind > state.silent:
        yield Problem(
            "subscriber_behind",
            Severity.WARNING,
            f"a revocation has waited {state.behind_for:.0f} s for the confirmation of a validator. Find the validator with "
            "`token-service subscribers --behind`; look at its log and its network",
        )


def _certificate_expiring(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        expire_time = node.details.signals.certificate_expire_time
        if expire_time is None or expire_time - state.now > CERTIFICATE_WARNING:
            continue
        left = expire_time - state.now
        is_over = left <= 0
        yield Problem(
            "certificate_expired" if is_over else "certificate_expiring",
            Severity.CRITICAL if left <= CERTIFICATE_CRITICAL else Severity.WARNING,
            (
                "the TLS certificate of the node has expired, so clients refuse it. "
                if is_over
                else f"the TLS certificate of the node expires in {left / DAY:.1f} days. "
            )
            + "Replace the files of TOKEN_SERVICE_TLS_CERT_FILE and TOKEN_SERVICE_TLS_KEY_FILE; no restart is needed",
            node.report.node_id,
        )


def _signing_key_overdue(state: ServiceState) -> Iterator[Problem]:
    active = [key for key in state.keys if key.state is SigningKeyState.ACTIVE]
    if not active:
        yield Problem(
            "signing_key_missing",
            Severity.CRITICAL,
            "no signing key is active, so no tokens are issued. Activate one with `token-service keys activate`",
        )
    rules = state.rotation
    for key in active:
        since = key.create_time if key.activate_time is None else key.activate_time
        # A prepared key waits for two announce times at most. See `Announcement.allows_scheduled`.
        overdue = state.now - (since + rules.period + 2 * rules.announce + KEY_GRACE)
        if overdue > 0:
            yield Problem(
                "signing_key_overdue",
                Severity.WARNING,
                f"the signing key {key.key_id} should have been replaced {overdue / DAY:.1f} days ago. Look in the logs of "
                "the nodes for the reason, or replace it with `token-service keys activate`",
            )


def _no_leader(state: ServiceState) -> Iterator[Problem]:
    for lease, job in _JOBS_OF_ALL.items():
        if lease not in state.leases:
            yield Problem(
                "job_without_leader",
                Severity.WARNING,
                f"no node does the job {job}. A node takes it within a minute of its start; after that, look in the logs for "
                "failures to use the database",
            )


def _redis_failing(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        if node.details.signals.redis is RedisState.FAILING:
            yield Problem(
                "redis_failing",
                Severity.WARNING,
                "the node can't use Redis. Revocations stay in force through the database and arrive a little later, and "
                "rates count for each node alone. Look at the Redis of TOKEN_SERVICE_REDIS_URL",
                node.report.node_id,
            )


def _pool_exhausted(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        signals = node.details.signals
        if signals.database_waiting and signals.database_connections >= signals.database_connections_max:
            yield Problem(
                "database_pool_exhausted",
                Severity.WARNING,
                f"all {signals.database_connections_max} connections of the node to the database are in use, and calls wait "
                f"for one: {signals.database_waiting}. Look for slow statements and locks in the database, or raise "
                "TOKEN_SERVICE_DATABASE_POOL_SIZE",
                node.report.node_id,
            )


def _policy_file_failing(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        if node.details.signals.policy_file_failing:
            yield Problem(
                "policy_file_failing",
                Severity.WARNING,
                "the policy file of the node is unusable, so the policies read earlier stay in force. The log of the node "
                "names the mistake; try the file with `token-service config --check`",
                node.report.node_id,
            )


def _backlog(state: ServiceState) -> Iterator[Problem]:
    for node in state.nodes:
        waiting = node.details.signals.audit_waiting
        if waiting >= AUDIT_BACKLOG:
            yield Problem(
                "audit_backlog",
                Severity.CRITICAL,
                f"audit events of the node wait for the database: {waiting}. From 10,000 on events are lost. Look at the "
                "database",
                node.report.node_id,
            )
    if state.logouts >= LOGOUT_BACKLOG:
        yield Problem(
            "logout_backlog",
            Severity.WARNING,
            f"logouts wait to be delivered: {state.logouts}. Look in the logs for clients that are unreachable",
        )


def _webhooks_failing(state: ServiceState) -> Iterator[Problem]:
    if state.webhooks:
        yield Problem(
            "webhooks_failing",
            Severity.WARNING,
            f"webhooks do not take events: {', '.join(state.webhooks)}. `token-service webhooks get` shows why; correct the "
            "receiver, or disable the webhook",
        )


def _versions_mixed(state: ServiceState) -> Iterator[Problem]:
    versions = {node.details.version for node in state.nodes}
    newest = max((node.details.start_time for node in state.nodes), default=state.now)
    if len(versions) > 1 and state.now - newest >= MIXED:
        names = ", ".join(sorted(version or "an earlier one" for version in versions))
        yield Problem(
            "versions_mixed",
            Severity.WARNING,
            f"nodes of several versions have run side by side for {(state.now - newest) / 3600:.0f} h: {names}. Finish the "
            "upgrade; `token-service nodes` shows which node has which version",
        )


def _ignored_by_older_nodes(state: ServiceState) -> Iterator[Problem]:
    older = [node.report.node_id for node in state.nodes if not node.details.version]
    ignored = []
    if state.clients:
        ignored.append("the registered clients, with their scopes, profiles and whether they are disabled")
    if revision := max((node.details.signals.policies_revision for node in state.nodes), default=0):
        ignored.append(f"the overrides of policies (revision {revision})")
    if older and ignored:
        yield Problem(
            "ignored_by_older_nodes",
            Severity.WARNING,
            f"nodes of an earlier version run and ignore {' and '.join(ignored)}: {', '.join(older)}. Replace these nodes; "
            "docs/upgrading.md lists what needs all nodes to be new",
        )


RULES: Final[Sequence[Rule]] = (
    _node_not_ready,
    _node_stale,
    _node_silent,
    _subscriber_silent,
    _subscriber_behind,
    _certificate_expiring,
    _signing_key_overdue,
    _no_leader,
    _redis_failing,
    _pool_exhausted,
    _policy_file_failing,
    _backlog,
    _webhooks_failing,
    _versions_mixed,
    _ignored_by_older_nodes,
)


def _validators(count: int) -> str:
    return "1 validator is" if count == 1 else f"{count} validators are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
