"""TokenService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.refresher import Refresher
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.revoker import Revoker
from token_service.rpc.convert.requests import (
    is_waiting,
    issue_command,
    presented,
    refresh_command,
    revoke_command,
    subscription,
    validation_report,
)
from token_service.rpc.convert.responses import issued_tokens
from token_service.rpc.server.service import StreamMethod, UnaryMethod
from token_service.rpc.services.validation import Validation
from token_service.rpc.stream.feed import Feed
from token_service.v1 import token_service_pb2 as pb


class TokenService:
    """The methods of TokenService. `Validation` serves those that validate tokens, `Feed` the streams."""

    name: Final = pb.DESCRIPTOR.services_by_name["TokenService"].full_name

    def __init__(
        self,
        issuer: Issuer,
        refresher: Refresher,
        proofs: KeyProofs,
        revoker: Revoker,
        validation: Validation,
        confirmations: Confirmations,
        feed: Feed,
        clock: Clock,
    ) -> None:
        self._issuer = issuer
        self._refresher = refresher
        self._proofs = proofs
        self._revoker = revoker
        self._validation = validation
        self._confirmations = confirmations
        self._feed = feed
        self._clock = clock

    @property
    def is_serving(self) -> bool:
        """Whether this node's replica of the revocation log is fresh enough to answer."""
        return self._feed.is_fresh

    def methods(self) -> Sequence[UnaryMethod | StreamMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("IssueToken", pb.IssueTokenRequest, self.IssueToken),
            UnaryMethod(
                "ValidateToken",
                pb.ValidateTokenRequest,
                self._validation.ValidateToken,
                at_once=self._validation.validate_at_once,
            ),
            UnaryMethod(
                "BatchValidateTokens", pb.BatchValidateTokensRequest, self._validation.BatchValidateTokens
            ),
            UnaryMethod("RefreshToken", pb.RefreshTokenRequest, self.RefreshToken),
            UnaryMethod("RevokeToken", pb.RevokeTokenRequest, self.RevokeToken, waits=is_waiting),
            UnaryMethod(
                "ConfirmRevocations",
                pb.ConfirmRevocationsRequest,
                self.ConfirmRevocations,
            ),
            StreamMethod("StreamRevocations", pb.StreamRevocationsRequest, self._feed),
        )

    async def IssueToken(self, request: pb.IssueTokenRequest, caller: Caller) -> pb.IssueTokenResponse:
        """Issue tokens."""
        tokens = await self._issuer.issue(caller, issue_command(request), self._clock.now())
        return issued_tokens(pb.IssueTokenResponse, tokens)

    async def RefreshToken(self, request: pb.RefreshTokenRequest, caller: Caller) -> pb.RefreshTokenResponse:
        """Exchange a refresh token."""
        keys = self._proofs.prove_of_holder(caller, request.client_id, presented(request))
        tokens = await self._refresher.refresh(caller, refresh_command(request, keys), self._clock.now())
        return issued_tokens(pb.RefreshTokenResponse, tokens)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, caller: Caller) -> pb.RevokeTokenResponse:
        """Revoke one target."""
        command = revoke_command(request)
        outcome = await self._revoker.revoke(caller, command, self._clock.now())
        return pb.RevokeTokenResponse(
            cursor=str(outcome.cursor),
            subscribers_connected=outcome.connected,
            subscribers_applied=outcome.applied,
            subscribers_silent=outcome.silent,
        )

    async def ConfirmRevocations(
        self, request: pb.ConfirmRevocationsRequest, caller: Caller
    ) -> pb.ConfirmRevocationsResponse:
        """Record the cursor a subscriber has applied, and return the head of the log."""
        applied = subscription(request.applied_cursor, request.subscriber_id, "applied_cursor")
        head = await self._confirmations.confirm(
            caller, request.subscriber_id, applied, request.key_set_revision, validation_report(request)
        )
        return pb.ConfirmRevocationsResponse(head_cursor=str(head))
