"""The body of the requests of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.events.log import StoredEvent

TEST_TYPE: Final = "webhook.test"
MAX_PAYLOAD: Final = 64 * 1024
"""Bytes of a body. A longer one loses the fields of its event."""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


def payload_of(event: StoredEvent) -> bytes:
    """Return the body for an event.

    `data` has the members of the event in the audit trail, with the names of the JSON of the contract, and the id of the
    event. Members that are empty are left out. An event whose row the audit trail has deleted has no timestamp.
    """
    data: dict[str, Any] = {"id": event.id, "chainId": event.chain_id, "position": str(event.position)}
    if event.row is None:
        return _encode({"type": event.type, "data": {**data, "action": event.type}})
    timestamp = _time(event.row.time)
    data |= _members(event.row, timestamp)
    body = _encode({"type": event.type, "timestamp": timestamp, "data": data})
    if len(body) > MAX_PAYLOAD:
        del data["fields"]
        body = _encode({"type": event.type, "timestamp": timestamp, "data": {**data, "truncated": True}})
    return body


def payload_of_test(webhook_id: str, now: float) -> bytes:
    """Return the body of a test."""
    timestamp = _time(round(now * 1_000_000))
    return _encode({"type": TEST_TYPE, "timestamp": timestamp, "data": {"webhookId": webhook_id}})


def _members(row: AuditRow, timestamp: str) -> dict[str, Any]:
    actor = {
        "kind": row.actor_kind,
        "name": row.actor_name,
        "clientId": row.actor_client_id,
        "onBehalfOf": row.on_behalf_of,
        "proof": row.actor_proof,
    }
    target = {
        "kind": row.target_kind,
        "id": row.target,
        "subject": row.subject,
        "sessionId": row.session_id,
        "clientId": row.client_id,
    }
    return _filled(
        {
            "time": timestamp,
            "action": row.action,
            "category": row.category,
            "actor": _filled(actor),
            "target": _filled(target),
            "outcome": row.outcome,
            "reason": row.reason,
            "comment": row.comment,
            "ipAddress": row.ip_address,
            "userAgent": row.user_agent,
            "fields": _decode(row.fields),
            "erased": row.is_erased,
        }
    )


def _filled(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _time(micros: int) -> str:
    """Return a time as in RFC 3339, to the microsecond."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"
