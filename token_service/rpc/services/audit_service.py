"""AuditService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.reports.audit import AuditReports
from token_service.rpc.convert.audit import (
    audit_event,
    audit_filter,
    explanation,
    revocation_target,
    verification,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import audit_service_pb2 as pb


class AuditService:
    """The methods of AuditService."""

    name: Final = pb.DESCRIPTOR.services_by_name["AuditService"].full_name
    is_serving: Final = True

    def __init__(self, reports: AuditReports) -> None:
        self._reports = reports

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("ListAuditEvents", pb.ListAuditEventsRequest, self.ListAuditEvents),
            UnaryMethod("VerifyAuditTrail", pb.VerifyAuditTrailRequest, self.VerifyAuditTrail),
            UnaryMethod("ExplainRevocation", pb.ExplainRevocationRequest, self.ExplainRevocation),
        )

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, caller: Caller
    ) -> pb.ListAuditEventsResponse:
        """Return a page of events."""
        page = await self._reports.list(caller, audit_filter(request), request.page_size, request.page_token)
        return pb.ListAuditEventsResponse(
            events=map(audit_event, page.rows), next_page_token=page.next_page_token
        )

    async def VerifyAuditTrail(
        self, request: pb.VerifyAuditTrailRequest, caller: Caller
    ) -> pb.VerifyAuditTrailResponse:
        """Verify the trail."""
        return verification(await self._reports.verify(caller))

    async def ExplainRevocation(
        self, request: pb.ExplainRevocationRequest, caller: Caller
    ) -> pb.ExplainRevocationResponse:
        """Return the events that revoked a target."""
        target, value = revocation_target(request)
        found = await self._reports.explain(caller, target, value)
        return pb.ExplainRevocationResponse(explanations=map(explanation, found))
