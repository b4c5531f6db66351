"""Conversion of AuditService messages."""

from __future__ import annotations

from typing import Final

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import Verification
from token_service.core.limits import Checks
from token_service.core.reports.audit import Arrival, Explanation
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.values import seconds_of_timestamp, struct_of_json, timestamp
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import audit_service_pb2 as pb

_decode: Final = msgspec.json.Decoder().decode
_TARGETS: Final = {
    "session_id": RevocationTarget.SESSION,
    "subject": RevocationTarget.SUBJECT,
    "client_id": RevocationTarget.CLIENT,
    "token_id": RevocationTarget.TOKEN_ID,
    "key_id": RevocationTarget.KEY,
}
MAX_ACTIONS: Final = 64


def audit_filter(request: pb.ListAuditEventsRequest) -> AuditFilter:
    """Convert the conditions of a ListAuditEventsRequest. Raises `InvalidRequestError`."""
    checks = Checks()
    since = seconds_of_timestamp(request.since, "since", checks) if request.HasField("since") else None
    until = seconds_of_timestamp(request.until, "until", checks) if request.HasField("until") else None
    if len(request.actions) > MAX_ACTIONS:
        checks.add("actions", f"has more than {MAX_ACTIONS} items")
    checks.done()
    return AuditFilter(
        actor=request.actor,
        subject=request.subject,
        session_id=request.session_id,
        client_id=request.client_id,
        actions=tuple(request.actions),
        since=since,
        until=until,
    )


def revocation_target(request: pb.ExplainRevocationRequest) -> tuple[RevocationTarget, str]:
    """Return the target of an ExplainRevocationRequest. Raises `InvalidRequestError`."""
    chosen = request.WhichOneof("target")
    if chosen == "everything" and request.everything:
        return RevocationTarget.EVERYTHING, ""
    if chosen is None or chosen == "everything":
        raise InvalidRequestError.of(
            "target", "is required: one of session_id, subject, client_id, token_id, key_id, everything"
        )
    return _TARGETS[chosen], getattr(request, chosen)


def audit_event(row: AuditRow) -> pb.AuditEvent:
    """Build the message of an event."""
    return pb.AuditEvent(
        chain_id=row.chain_id,
        position=row.position,
        time=timestamp(row.time / 1_000_000),
        action=row.action,
        category=row.category,
        actor=pb.AuditActor(
            kind=row.actor_kind,
            name=row.actor_name,
            client_id=row.actor_client_id,
            on_behalf_of=row.on_behalf_of,
            proof=row.actor_proof,
        ),
        target=pb.AuditTarget(
            kind=row.target_kind,
            id=row.target,
            subject=row.subject,
            session_id=row.session_id,
            client_id=row.client_id,
        ),
        outcome=row.outcome,
        reason=row.reason,
        comment=row.comment,
        ip_address=row.ip_address,
        user_agent=row.user_agent,
        fields=struct_of_json(_decode(row.fields)),
        erased=row.is_erased,
    )


def explanation(found: Explanation) -> pb.RevocationExplanation:
    """Build the message of an explanation."""
    return pb.RevocationExplanation(
        event=audit_event(found.row),
        arrivals=[_arrival(each) for each in found.arrivals],
    )


def _arrival(arrival: Arrival) -> pb.RevocationArrival:
    message = pb.RevocationArrival(subscriber=arrival.subscriber, time=timestamp(arrival.time))
    if (counts := arrival.validations) is not None:
        message.client_version = counts.client_version
        message.validated = counts.validated
        message.refusals.update(counts.refusals)
    return message


def verification(result: Verification) -> pb.VerifyAuditTrailResponse:
    """Build the response to VerifyAuditTrail."""
    return pb.VerifyAuditTrailResponse(
        intact=result.is_intact,
        events=result.events,
        chains=result.chains,
        checkpoints=result.checkpoints,
        erased=result.erased,
        findings=[pb.AuditFinding(place=each.place, problem=each.problem) for each in result.findings],
    )
