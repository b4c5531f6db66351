"""Conversion of EventService messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from token_service.core.events.event import Action
from token_service.core.events.filter import MAX_EVENT_CONDITIONS, EventFilter
from token_service.core.events.log import StoredEvent
from token_service.core.reports.event_readers import EventPage
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.audit import audit_event
from token_service.v1 import audit_service_pb2, event_service_pb2 as pb

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_NAMES: Final = {action.value: f"EVENT_TYPE_{action.name}" for action in Action}
_ACTIONS: Final = {pb.EventType.Value(_NAMES[action.value]): action for action in Action}
_REVOKING: Final = frozenset((Action.REVOKED.value, Action.REFRESH_TOKEN_REUSED.value))


def event_filter(request: pb.StreamEventsRequest) -> EventFilter:
    """Convert the conditions of a StreamEventsRequest. Raises `InvalidRequestError` for an unknown type."""
    return EventFilter(
        actions=actions_of(request.types),
        categories=list(request.categories),
        subject=request.subject,
        session_id=request.session_id,
        client_id=request.client_id,
    )


def actions_of(types: Sequence[int]) -> list[Action]:
    """Convert types. Raises `InvalidRequestError` for an unknown one, or if there are too many."""
    if len(types) > MAX_EVENT_CONDITIONS:
        raise InvalidRequestError.of("types", f"has more than {MAX_EVENT_CONDITIONS} items")
    for place, number in enumerate(types):
        if number not in _ACTIONS:
            raise InvalidRequestError.of(f"types[{place}]", "is not a type that this service knows")
    return [_ACTIONS[number] for number in types]


def event_type(action: str) -> str:
    """Return the name of the type of an action; EVENT_TYPE_UNSPECIFIED for one that the contract does not have."""
    return _NAMES.get(action, "EVENT_TYPE_UNSPECIFIED")


def events_response(page: EventPage) -> pb.StreamEventsResponse:
    """Build one response of a stream."""
    return pb.StreamEventsResponse(
        events=map(event_message, page.events),
        cursor=str(page.cursor),
        caught_up=page.caught_up,
        reset=page.reset,
    )


def event_message(event: StoredEvent) -> pb.Event:
    """Build the message of an event."""
    message = pb.Event(id=event.id, type=event_type(event.type))
    if event.row is None:
        message.audit_event.CopyFrom(
            audit_service_pb2.AuditEvent(chain_id=event.chain_id, position=event.position, action=event.type)
        )
        return message
    message.audit_event.CopyFrom(audit_event(event.row))
    if event.type in _REVOKING:
        fields = _decode(event.row.fields)
        message.revocation.revocation_cursor = str(fields.get("cursor", ""))
        message.revocation.cause = str(fields.get("cause", ""))
    elif event.type == Action.RISK_DETECTED.value:
        message.risk.CopyFrom(_risk(_decode(event.row.fields)))
    return message


def _risk(fields: Mapping[str, Any]) -> pb.RiskDetail:
    return pb.RiskDetail(
        score=fields.get("score", 0),
        action=fields.get("action", ""),
        dry_run=fields.get("dry_run", False),
        evidence=[
            pb.RiskEvidence(
                signal=each.get("signal", ""), weight=each.get("weight", 0), detail=each.get("detail", "")
            )
            for each in fields.get("evidence", ())
        ],
    )
