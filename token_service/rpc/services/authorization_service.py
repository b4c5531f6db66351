"""AuthorizationService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.grants.authorization import AuthorizationGrants
from token_service.rpc.convert.requests import authorization_grant_command
from token_service.rpc.convert.values import timestamp
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import authorization_service_pb2 as pb


class AuthorizationService:
    """The methods of AuthorizationService."""

    name: Final = pb.DESCRIPTOR.services_by_name["AuthorizationService"].full_name
    is_serving: Final = True

    def __init__(self, grants: AuthorizationGrants, clock: Clock) -> None:
        self._grants = grants
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod(
                "CreateAuthorizationGrant", pb.CreateAuthorizationGrantRequest, self.CreateAuthorizationGrant
            ),
        )

    async def CreateAuthorizationGrant(
        self, request: pb.CreateAuthorizationGrantRequest, caller: Caller
    ) -> pb.CreateAuthorizationGrantResponse:
        """Make an authorization code."""
        code, expire_time = await self._grants.create(
            caller, authorization_grant_command(request), self._clock.now()
        )
        return pb.CreateAuthorizationGrantResponse(
            code=code, expire_time=timestamp(expire_time), issuer=self._grants.issuer
        )
