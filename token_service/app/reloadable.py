"""Puts reloadable settings in force at the running parts of a node."""

from __future__ import annotations

from token_service.app.adapters import keeper_rules
from token_service.app.core import Core
from token_service.app.edges import grpc_limits
from token_service.config import Settings
from token_service.rpc.server.server import GrpcServer
from token_service.rpc.stream.feed import Feed
from token_service.telemetry import Audit
from token_service.telemetry.lines import set_log_level
from token_service.web.edge import HttpEdge


def apply_settings(
    settings: Settings, *, core: Core, audit: Audit, grpc_server: GrpcServer, feed: Feed, http: HttpEdge
) -> None:
    """Put every setting in force that is `reloadable` in the table of settings."""
    set_log_level(settings.log_level)
    limits = grpc_limits(settings, 0)  # the number of connections stays as it is
    grpc_server.limit_calls(limits.max_concurrent_calls, limits.max_calls_per_caller)
    feed.limit_streams(limits.max_streams, limits.max_streams_per_caller)
    http.limit_requests(settings.max_concurrent_calls)
    core.rates.limit_revocations(settings.max_revocations_per_caller)
    core.janitor.interval = settings.janitor_interval
    core.audit_keeper.rules = keeper_rules(settings)
    audit.keep_routine_rows(settings.audit_routine != "log")
    core.ports.stores.audit.announce_routine(settings.audit_routine == "events")
