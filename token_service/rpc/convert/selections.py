"""Conversion of CountSessions and RevokeSessions."""

from __future__ import annotations

from token_service.core.limits import Checks
from token_service.core.revocation.bulk import RevokedSessions, RevokeSessionsCommand
from token_service.core.sessions.selection import SessionReach, SessionSelection
from token_service.rpc.convert.requests import revocation_reason
from token_service.rpc.convert.values import seconds_of_timestamp, timestamp
from token_service.v1 import session_service_pb2 as pb


def session_selection(message: pb.SessionSelection) -> SessionSelection:
    """Convert a filter. Raises `InvalidRequestError`."""
    checks = Checks()
    times = {
        name: seconds_of_timestamp(getattr(message, name), f"filter.{name}", checks)
        for name in ("created_after", "created_before", "last_used_before")
        if message.HasField(name)
    }
    checks.done()
    return SessionSelection(
        subject=message.subject,
        client_id=message.client_id,
        device_id=message.device_id,
        upstream=message.upstream,
        **times,
    )


def revoke_sessions_command(request: pb.RevokeSessionsRequest) -> RevokeSessionsCommand:
    """Convert a RevokeSessionsRequest. Raises `InvalidRequestError`."""
    return RevokeSessionsCommand(
        selection=session_selection(request.filter),
        reason=revocation_reason(request.reason),
        comment=request.comment,
        dry_run=request.dry_run,
        max_sessions=request.max_sessions,
        page_token=request.page_token,
    )


def counted_sessions(reach: SessionReach) -> pb.CountSessionsResponse:
    """Build the response to CountSessions."""
    message = pb.CountSessionsResponse(
        sessions=reach.sessions,
        accuracy=reach.accuracy.value,  # type: ignore[arg-type]  # numbered alike
        subjects=reach.subjects,
        clients_count=reach.clients,
        clients=[pb.ClientSessions(client_id=name, sessions=count) for name, count in reach.top_clients],
    )
    if reach.oldest_create_time is not None:
        message.oldest_create_time.CopyFrom(timestamp(reach.oldest_create_time))
    return message


def revoked_sessions(result: RevokedSessions) -> pb.RevokeSessionsResponse:
    """Build the response to RevokeSessions."""
    return pb.RevokeSessionsResponse(
        sessions=result.sessions,
        accuracy=result.accuracy.value,  # type: ignore[arg-type]  # numbered alike
        next_page_token=result.next_page_token,
        cursor="" if result.cursor is None else str(result.cursor),
        advice=result.advice,
    )
