"""PersonalAccessTokenService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.issuing.personal_access_tokens import PersonalAccessTokens
from token_service.core.sessions.details import SessionDetails
from token_service.rpc.convert.requests import create_personal_access_token, revocation_reason
from token_service.rpc.convert.responses import personal_access_token
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import personal_access_token_service_pb2 as pb


class PersonalAccessTokenService:
    """The methods of PersonalAccessTokenService."""

    name: Final = pb.DESCRIPTOR.services_by_name["PersonalAccessTokenService"].full_name
    is_serving: Final = True

    def __init__(self, tokens: PersonalAccessTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod(
                "CreatePersonalAccessToken",
                pb.CreatePersonalAccessTokenRequest,
                self.CreatePersonalAccessToken,
            ),
            UnaryMethod(
                "ListPersonalAccessTokens", pb.ListPersonalAccessTokensRequest, self.ListPersonalAccessTokens
            ),
            UnaryMethod(
                "RevokePersonalAccessToken",
                pb.RevokePersonalAccessTokenRequest,
                self.RevokePersonalAccessToken,
            ),
        )

    async def CreatePersonalAccessToken(
        self, request: pb.CreatePersonalAccessTokenRequest, caller: Caller
    ) -> pb.CreatePersonalAccessTokenResponse:
        """Create a token."""
        now = self._clock.now()
        created = await self._tokens.create(caller, create_personal_access_token(request), now)
        return pb.CreatePersonalAccessTokenResponse(
            token=created.token,
            personal_access_token=personal_access_token(SessionDetails(created.session), now),
        )

    async def ListPersonalAccessTokens(
        self, request: pb.ListPersonalAccessTokensRequest, caller: Caller
    ) -> pb.ListPersonalAccessTokensResponse:
        """Return a page of the tokens of a subject."""
        now = self._clock.now()
        page = await self._tokens.list(
            caller,
            request.subject,
            client_id=request.client_id,
            live_at=now if request.active_only else None,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListPersonalAccessTokensResponse(
            personal_access_tokens=[personal_access_token(details, now) for details in page.sessions],
            next_page_token=page.next_page_token,
        )

    async def RevokePersonalAccessToken(
        self, request: pb.RevokePersonalAccessTokenRequest, caller: Caller
    ) -> pb.RevokePersonalAccessTokenResponse:
        """Revoke a token."""
        cursor = await self._tokens.revoke(
            caller,
            request.personal_access_token_id,
            reason=revocation_reason(request.reason),
            comment=request.comment,
            now=self._clock.now(),
        )
        return pb.RevokePersonalAccessTokenResponse(cursor=str(cursor))
