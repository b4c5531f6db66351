"""The members of exported records. No record holds a token, a secret or a hash of one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from token_service.core.administration.subjects.store import ApprovedDevice, PendingLogout
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Origin
from token_service.core.revocation.entries import LogEntry
from token_service.core.risk.history import parse_history
from token_service.core.sessions.details import SessionDetails
from token_service.tokens.revocation import Cursor

_decode: Final = msgspec.json.Decoder().decode


def session_members(details: SessionDetails, now: float) -> Mapping[str, Any]:
    """Return a session or personal access token, its origin, and its end."""
    session, end = details.session, details.end()
    return {
        "session_id": str(session.id),
        "kind": "session" if session.personal_hash is None else "personal_access_token",
        "state": session.state(now).value,
        "subject": session.subject,
        "client_id": session.client_id,
        "classification": session.classification,
        "device_id": session.device_id,
        "name": session.name,
        "scopes": list(session.scopes),
        "audience": list(session.audience),
        "auth_context": _plain(session.auth_context),
        "confirmation": _plain(session.confirmation) if session.confirmation else None,
        "custom_claims": dict(session.custom_claims),
        "identity_claims": dict(session.identity_claims),
        "upstream": session.upstream,
        "upstream_session": session.upstream_session,
        "refreshes": session.generation,
        "create_time": time_text(session.create_time),
        "last_use_time": time_text(session.last_use_time),
        "idle_expire_time": time_text(session.idle_expire_time),
        "absolute_expire_time": time_text(session.absolute_expire_time),
        "created_from": _origin(details.created_from),
        "last_used_from": _origin(details.last_used_from),
        "known_origins": [
            {
                "time": time_text(each.time),
                "ip_address": each.address,
                "user_agent": each.user_agent,
                "device_id": each.device_id,
            }
            for each in parse_history(details.origins).origins
        ],
        "revoke_time": None if end is None else time_text(end.time),
        "revoke_reason": None if end is None else end.reason.name.lower(),
        "revoked_through": None if end is None else end.through.name.lower(),
    }


def device_request_members(request: ApprovedDevice) -> Mapping[str, Any]:
    """Return the request of a device that the subject has approved."""
    return {
        "client_id": request.client_id,
        "scopes": list(request.scopes),
        "audience": list(request.audience),
        "expire_time": time_text(request.expire_time),
        "approval": dict(request.approval),
    }


def logout_members(logout: PendingLogout) -> Mapping[str, Any]:
    """Return a client that is still to be told of the end of a session."""
    return {
        "session_id": str(logout.session_id),
        "client_id": logout.client_id,
        "create_time": time_text(logout.create_time),
    }


def entry_members(epoch: str, entry: LogEntry) -> Mapping[str, Any]:
    """Return an entry of the revocation log."""
    revocation = entry.revocation
    return {
        "cursor": str(Cursor(epoch, revocation.sequence)),
        "target": revocation.target.name.lower(),
        "value": revocation.value,
        "reason": revocation.reason.name.lower(),
        "comment": entry.comment,
        "revoke_time": time_text(revocation.revoke_time),
        "expire_time": time_text(revocation.expire_time),
    }


def event_members(row: AuditRow) -> Mapping[str, Any]:
    """Return an audit event without the proof of its chain."""
    return {
        "event_id": f"{row.chain_id}:{row.position}",
        "time": time_text(row.time / 1_000_000),
        "action": row.action,
        "outcome": row.outcome,
        "reason": row.reason,
        "actor": f"{row.actor_kind}:{row.actor_name}",
        "on_behalf_of": row.on_behalf_of,
        "target_kind": row.target_kind,
        "target_id": row.target,
        "subject": row.subject,
        "session_id": row.session_id,
        "client_id": row.client_id,
        "ip_address": row.ip_address,
        "user_agent": row.user_agent,
        "comment": row.comment,
        "fields": _decode(row.fields),
    }


def time_text(numeric_date: float) -> str:
    """Return a time as in RFC 3339, in UTC, to the microsecond."""
    return datetime.fromtimestamp(numeric_date, UTC).isoformat().replace("+00:00", "Z")


def _origin(origin: Origin) -> Mapping[str, str]:
    return {"ip_address": origin.ip_address, "user_agent": origin.user_agent}


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value)
