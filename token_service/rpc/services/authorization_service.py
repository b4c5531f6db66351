"""AuthorizationService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.grants.authorization import AuthorizationGrants
from token_service.core.login.challenge import LoginChallenges
from token_service.rpc.convert.requests import accept_command, authorization_grant_command
from token_service.rpc.convert.values import timestamp
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import authorization_service_pb2 as pb


class AuthorizationService:
    """The methods of AuthorizationService."""

    name: Final = pb.DESCRIPTOR.services_by_name["AuthorizationService"].full_name
    is_serving: Final = True

    def __init__(self, grants: AuthorizationGrants, logins: LoginChallenges, clock: Clock) -> None:
        self._grants = grants
        self._logins = logins
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod(
                "CreateAuthorizationGrant", pb.CreateAuthorizationGrantRequest, self.CreateAuthorizationGrant
            ),
            UnaryMethod("GetLoginRequest", pb.GetLoginRequestRequest, self.GetLoginRequest),
            UnaryMethod("AcceptLoginRequest", pb.AcceptLoginRequestRequest, self.AcceptLoginRequest),
            UnaryMethod("RejectLoginRequest", pb.RejectLoginRequestRequest, self.RejectLoginRequest),
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

    async def GetLoginRequest(
        self, request: pb.GetLoginRequestRequest, caller: Caller
    ) -> pb.GetLoginRequestResponse:
        """Return a login that a client has asked for."""
        login, client = await self._logins.get(caller, request.login_challenge, self._clock.now())
        asked = login.request
        answer = pb.GetLoginRequestResponse(
            client_id=asked.client_id,
            client_name="" if client is None else client.client_name,
            scopes=asked.scopes,
            audience=asked.audience,
            prompts=[prompt.value for prompt in asked.prompts],
            acr_values=asked.acr_values,
            login_hint=asked.login_hint,
            expire_time=timestamp(login.expire_time),
            subject="" if asked.hint is None else asked.hint.subject,
        )
        if asked.max_age is not None:
            answer.max_age.seconds = asked.max_age
        return answer

    async def AcceptLoginRequest(
        self, request: pb.AcceptLoginRequestRequest, caller: Caller
    ) -> pb.AcceptLoginRequestResponse:
        """Complete a login."""
        command = accept_command(request)
        return pb.AcceptLoginRequestResponse(
            redirect_to=await self._logins.accept(caller, command, self._clock.now())
        )

    async def RejectLoginRequest(
        self, request: pb.RejectLoginRequestRequest, caller: Caller
    ) -> pb.RejectLoginRequestResponse:
        """Refuse a login."""
        return pb.RejectLoginRequestResponse(
            redirect_to=await self._logins.reject(
                caller, request.login_challenge, request.reason, self._clock.now()
            )
        )
