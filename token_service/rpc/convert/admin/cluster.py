"""Conversion of nodes, subscribers and the overview."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from token_service.core.keys.store import SigningKeyState
from token_service.core.reports.cluster.nodes import RunningNode
from token_service.core.reports.cluster.overview import JobEntry, KeyEntry, Overview
from token_service.core.reports.cluster.problems import Problem
from token_service.core.reports.cluster.propagation import PropagationSummary
from token_service.core.reports.cluster.subscribers import (
    ConnectedSubscriber,
    SubscriberPage,
    SubscriberQuery,
)
from token_service.rpc.convert.values import duration, set_timestamp
from token_service.v1 import admin_service_pb2 as pb

_KEY_STATES: Final[Mapping[SigningKeyState, str]] = {
    SigningKeyState.PREPARED: "prepared",
    SigningKeyState.ACTIVE: "active",
    SigningKeyState.RETIRED: "retiring",
    SigningKeyState.REVOKED: "revoked",
}


def subscriber_query(request: pb.ListSubscribersRequest) -> SubscriberQuery:
    """Convert a ListSubscribersRequest."""
    return SubscriberQuery(
        caller=request.caller,
        node_id=request.node_id,
        behind_only=request.behind_only,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def subscribers_message(page: SubscriberPage) -> pb.ListSubscribersResponse:
    """Build the response to ListSubscribers."""
    return pb.ListSubscribersResponse(
        subscribers=map(_subscriber, page.subscribers),
        next_page_token=page.next_page_token,
        head_cursor=str(page.head),
        missing_nodes=page.missing_nodes,
    )


def _subscriber(subscriber: ConnectedSubscriber) -> pb.Subscriber:
    listed = subscriber.listed
    message = pb.Subscriber(
        subscriber_id=listed.name,
        caller=listed.caller,
        node_id=subscriber.node_id,
        client_version=listed.client_version,
        applied_cursor="" if subscriber.applied is None else str(subscriber.applied),
        entries_behind=subscriber.entries_behind,
        silent=listed.is_silent,
        key_set_revision=listed.key_revision,
        connected_for=duration(listed.connected_for + subscriber.list_age),
        validated=listed.validated,
        refusals=listed.refusals,
    )
    if listed.confirmation_age is not None:
        message.confirmation_age.CopyFrom(duration(listed.confirmation_age + subscriber.list_age))
    return message


def node_message(node: RunningNode) -> pb.Node:
    """Build the message of a running node."""
    details, signals = node.details, node.details.signals
    message = pb.Node(
        node_id=node.report.node_id,
        host=details.host,
        version=details.version,
        report_age=duration(node.report.age),
        applied_cursor=details.applied,
        staleness=duration(node.staleness),
        subscribers=node.report.connected,
        ready=not signals.not_ready,
        problems=node.problems,
        redis=signals.redis,
        database_connections=signals.database_connections,
        database_connections_max=signals.database_connections_max,
        database_waiting=signals.database_waiting,
        jobs=node.jobs,
        key_set_revision=details.key_revision,
        policies_revision=signals.policies_revision,
    )
    if details.start_time:
        set_timestamp(message.start_time, details.start_time)
    if signals.certificate_expire_time is not None:
        set_timestamp(message.certificate_expire_time, signals.certificate_expire_time)
    return message


def overview_message(overview: Overview) -> pb.GetOverviewResponse:
    """Build the response to GetOverview."""
    facts = overview.facts
    return pb.GetOverviewResponse(
        version=facts.version,
        issuer=facts.issuer,
        schema_revision=facts.schema_revision,
        head_cursor=str(overview.head),
        nodes=map(node_message, overview.nodes),
        subscribers_connected=overview.connected,
        subscribers_behind=overview.behind,
        subscribers_silent=overview.silent,
        propagation=_propagation(overview.propagation),
        revocations=overview.revocations,
        sessions_active=overview.sessions.sessions,
        clients_active=overview.clients_active,
        keys=map(_key, overview.keys),
        jobs=map(_job, overview.jobs),
        policies_revision=overview.policies_revision,
        problems=map(_problem, overview.problems),
    )


def _propagation(summary: PropagationSummary) -> pb.Propagation:
    if not summary.count:
        return pb.Propagation()
    message = pb.Propagation(
        count=summary.count,
        median=duration(summary.median),
        p99=duration(summary.p99),
        longest=duration(summary.longest),
    )
    set_timestamp(message.last_time, summary.last_time)
    return message


def _key(entry: KeyEntry) -> pb.KeySummary:
    key = entry.key
    message = pb.KeySummary(key_id=key.key_id, algorithm=key.algorithm.value, state=_KEY_STATES[key.state])
    if key.activate_time is not None:
        set_timestamp(message.activate_time, key.activate_time)
    if entry.next_change_time is not None:
        set_timestamp(message.next_change_time, entry.next_change_time)
    return message


def _job(job: JobEntry) -> pb.Job:
    message = pb.Job(name=job.name, node_id=job.node_id, backlog=job.backlog)
    if job.last_run_time is not None:
        set_timestamp(message.last_run_time, job.last_run_time)
    return message


def _problem(problem: Problem) -> pb.Problem:
    return pb.Problem(
        name=problem.name, severity=problem.severity, message=problem.message, node_id=problem.node_id
    )
