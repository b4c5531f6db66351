"""PreviewAutomaticRevocation."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.automatic.preview import AutomaticPreviews
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class AutomaticPart:
    """The rules of automatic revocation."""

    def __init__(self, previews: AutomaticPreviews, clock: Clock) -> None:
        self._previews = previews
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod(
                "PreviewAutomaticRevocation",
                pb.PreviewAutomaticRevocationRequest,
                self.PreviewAutomaticRevocation,
            ),
        )

    async def PreviewAutomaticRevocation(
        self, _request: pb.PreviewAutomaticRevocationRequest, caller: Caller
    ) -> pb.PreviewAutomaticRevocationResponse:
        """Tell what each rule would revoke now."""
        found = await self._previews.preview(caller, self._clock.now())
        return pb.PreviewAutomaticRevocationResponse(
            rules=[
                pb.AutomaticRule(
                    rule=each.rule,
                    cause=each.cause.value,
                    limit=each.limit,
                    revokes=each.revokes,
                    targets=each.targets,
                    accuracy=each.accuracy.value,  # type: ignore[arg-type]  # numbered alike
                    dry_run=each.dry_run,
                )
                for each in found
            ]
        )
