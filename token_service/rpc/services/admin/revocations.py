"""ListRevocations, PreviewRevocation and PreviewKeyRetirement."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.keys.administration import SigningKeys
from token_service.core.reports.previews import RevocationPreviews
from token_service.core.reports.revocations import LiveRevocations
from token_service.rpc.convert.admin.revocations import (
    entry_filter,
    live_revocation,
    preview_command,
    preview_message,
    retirement_message,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class RevocationsPart:
    """The live revocations, and previews of revocations and of retirements of keys."""

    def __init__(
        self,
        revocations: LiveRevocations,
        previews: RevocationPreviews,
        signing_keys: SigningKeys,
        clock: Clock,
    ) -> None:
        self._revocations = revocations
        self._previews = previews
        self._signing_keys = signing_keys
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod("ListRevocations", pb.ListRevocationsRequest, self.ListRevocations),
            UnaryMethod("PreviewRevocation", pb.PreviewRevocationRequest, self.PreviewRevocation),
            UnaryMethod("PreviewKeyRetirement", pb.PreviewKeyRetirementRequest, self.PreviewKeyRetirement),
        )

    async def ListRevocations(
        self, request: pb.ListRevocationsRequest, caller: Caller
    ) -> pb.ListRevocationsResponse:
        """Return a page of the live revocations."""
        page = await self._revocations.list(
            caller, entry_filter(request), request.page_size, request.page_token, self._clock.now()
        )
        return pb.ListRevocationsResponse(
            revocations=map(live_revocation, page.revocations), next_page_token=page.next_page_token
        )

    async def PreviewRevocation(
        self, request: pb.PreviewRevocationRequest, caller: Caller
    ) -> pb.PreviewRevocationResponse:
        """Tell what a revocation would reach."""
        return preview_message(
            await self._previews.preview(caller, preview_command(request), self._clock.now())
        )

    async def PreviewKeyRetirement(
        self, request: pb.PreviewKeyRetirementRequest, caller: Caller
    ) -> pb.PreviewKeyRetirementResponse:
        """Tell what a RetireSigningKey would do."""
        return retirement_message(await self._signing_keys.preview_retirement(caller, request.key_id))
