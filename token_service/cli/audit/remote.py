"""The audit trail of a running service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from token_service.cli.remote.service import Service
from token_service.core.events.chain import AuditRow
from token_service.core.events.export import members_of
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import Finding, Verification
from token_service.core.limits import Checks
from token_service.core.reports.audit import Arrival, Explanation
from token_service.rpc.convert.values import json_of_struct, timestamp
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import audit_service_pb2 as pb

_UNKNOWN: Final = ("salt", "personal_hash", "key_version", "mac")
"""Members of an event that a service does not send: the proof of its chain."""
_FIELDS: Final = {
    RevocationTarget.SESSION: "session_id",
    RevocationTarget.SUBJECT: "subject",
    RevocationTarget.CLIENT: "client_id",
    RevocationTarget.TOKEN_ID: "token_id",
    RevocationTarget.KEY: "key_id",
}
_VERIFY_TIMEOUT: Final = 600.0
"""Seconds: the service reads the whole trail."""


class RemoteTrail:
    """The audit trail of a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def list(self, where: AuditFilter, limit: int, page_token: str) -> tuple[Sequence[AuditRow], str]:
        """Return a page of events."""
        request = pb.ListAuditEventsRequest(
            actor=where.actor,
            subject=where.subject,
            session_id=where.session_id,
            client_id=where.client_id,
            actions=where.actions,
            since=None if where.since is None else timestamp(where.since),
            until=None if where.until is None else timestamp(where.until),
            page_size=limit,
            page_token=page_token,
        )
        page = self._service.call(self._service.audit.ListAuditEvents, request)
        return [_row(event) for event in page.events], page.next_page_token

    def explain(self, target: RevocationTarget, value: str) -> Sequence[Explanation]:
        """Return the events that revoked a target."""
        request = pb.ExplainRevocationRequest()
        if target is RevocationTarget.EVERYTHING:
            request.everything = True
        else:
            setattr(request, _FIELDS[target], value)
        response = self._service.call(self._service.audit.ExplainRevocation, request)
        return [
            Explanation(
                _row(each.event),
                [
                    Arrival(arrival.subscriber, arrival.time.ToMicroseconds() / 1_000_000)
                    for arrival in each.arrivals
                ],
            )
            for each in response.explanations
        ]

    def verify(self, *, quiet: bool) -> Verification:
        """Let the service verify the whole trail."""
        response = self._service.call(
            self._service.audit.VerifyAuditTrail,
            pb.VerifyAuditTrailRequest(),
            timeout=max(_VERIFY_TIMEOUT, self._service.connection.timeout),
        )
        return Verification(
            events=response.events,
            chains=response.chains,
            checkpoints=response.checkpoints,
            erased=response.erased,
            findings=[Finding(each.place, each.problem) for each in response.findings],
        )

    def members_of(self, row: AuditRow) -> dict[str, Any]:
        """Return an event as JSON members."""
        return {name: value for name, value in members_of(row).items() if name not in _UNKNOWN}


def _row(event: pb.AuditEvent) -> AuditRow:
    """Return an event without the proof of its chain."""
    kind = event.target.kind
    return AuditRow(
        chain_id=event.chain_id,
        position=event.position,
        time=event.time.ToMicroseconds(),
        action=event.action,
        category=event.category,
        actor_kind=event.actor.kind,
        actor_name=event.actor.name,
        actor_client_id=event.actor.client_id,
        actor_proof=event.actor.proof,
        session_id=event.target.session_id,
        client_id=event.target.client_id,
        target_kind=kind,
        target_id="" if kind == "subject" else event.target.id,
        outcome=event.outcome,
        reason=event.reason,
        fields=json.dumps(json_of_struct(event.fields, "fields", Checks())),
        on_behalf_of=event.actor.on_behalf_of,
        subject=event.target.subject,
        comment=event.comment,
        ip_address=event.ip_address,
        user_agent=event.user_agent,
        salt=None if event.erased else b"",
        personal_hash=b"",
        key_version="",
    )
