"""TokenService: convert, call, convert."""

from __future__ import annotations

import asyncio
from typing import Final

from token_service.clock import Clock
from token_service.core.callers import Permission
from token_service.core.introspector import Introspection, Introspector, OpaqueClaims
from token_service.core.issuer import Issuer
from token_service.core.limits import MAX_BATCH
from token_service.core.read_index import ReadIndex
from token_service.core.refresher import Refresher
from token_service.core.revoker import Revoker
from token_service.core.validators import Validators
from token_service.errors import InvalidReason, InvalidRequestError
from token_service.rpc.authorizer import Caller
from token_service.rpc.requests import (
    is_local,
    issue_command,
    refresh_command,
    revoke_command,
    subscription,
    token_query,
)
from token_service.rpc.responses import issued_tokens, jwt_claims, opaque_claims
from token_service.tokens.opaque_token import looks_opaque
from token_service.tokens.revocation import Cursor, RevocationTarget
from token_service.v1 import token_service_pb2 as pb

_ADMIN_TARGETS: Final = frozenset({RevocationTarget.KEY, RevocationTarget.EVERYTHING})
_PAUSE_EVERY: Final = 32
"""Tokens of a batch between two pauses, each of which lets other calls go on."""

_INACTIVE: Final = {
    reason: pb.ValidateTokenResponse(reason=f"INVALID_REASON_{reason.name}").SerializeToString()
    for reason in InvalidReason
}


class TokenService:
    """The methods of TokenService but for StreamRevocations, which is `Feed`'s."""

    def __init__(
        self,
        issuer: Issuer,
        refresher: Refresher,
        revoker: Revoker,
        introspector: Introspector,
        read_index: ReadIndex,
        validators: Validators,
        clock: Clock,
        issuer_name: str,
    ) -> None:
        self._issuer = issuer
        self._refresher = refresher
        self._revoker = revoker
        self._introspector = introspector
        self._read_index = read_index
        self._validators = validators
        self._clock = clock
        self._issuer_name = issuer_name
        self._cursor = Cursor("", 0)
        self._encoded_cursor = b""

    async def IssueToken(self, request: pb.IssueTokenRequest, caller: Caller | None) -> pb.IssueTokenResponse:
        """Issue tokens."""
        tokens = await self._issuer.issue(issue_command(request), self._clock.now())
        return issued_tokens(pb.IssueTokenResponse, tokens)

    async def RefreshToken(
        self, request: pb.RefreshTokenRequest, caller: Caller | None
    ) -> pb.RefreshTokenResponse:
        """Exchange a refresh token."""
        tokens = await self._refresher.refresh(refresh_command(request), self._clock.now())
        return issued_tokens(pb.RefreshTokenResponse, tokens)

    def validate_at_once(self, request: pb.ValidateTokenRequest) -> bytes | None:
        """The answer to ValidateToken where it can be given from what this process knows; None where it can't."""
        if looks_opaque(request.token) or not is_local(request):
            return None
        return self._encode(self._introspector.validate_jwt(token_query(request), self._clock.now()))

    async def ValidateToken(self, request: pb.ValidateTokenRequest, caller: Caller | None) -> bytes:
        """Judge a token, with whatever I/O that takes."""
        query = token_query(request)
        if not is_local(request):
            await self._introspector.catch_up()
        return self._encode(await self._introspector.validate(query, self._clock.now()))

    async def BatchValidateTokens(
        self, request: pb.BatchValidateTokensRequest, caller: Caller | None
    ) -> pb.BatchValidateTokensResponse:
        """Judge several tokens."""
        if not 1 <= len(request.requests) <= MAX_BATCH:
            raise InvalidRequestError.of("requests", f"has not 1 to {MAX_BATCH} items")
        queries = [token_query(item, f"requests[{number}].") for number, item in enumerate(request.requests)]
        if not all(map(is_local, request.requests)):
            await self._introspector.catch_up()
        response = pb.BatchValidateTokensResponse()
        for number, query in enumerate(queries):
            if number % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                await asyncio.sleep(0)
            answer = self._encode(await self._introspector.validate(query, self._clock.now()))
            response.responses.add().MergeFromString(answer)
        return response

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, caller: Caller | None
    ) -> pb.RevokeTokenResponse:
        """Revoke one thing."""
        command = revoke_command(request)
        if command.target in _ADMIN_TARGETS and caller is not None:
            caller.require(Permission.ADMIN)
        outcome = await self._revoker.revoke(command, self._clock.now())
        return pb.RevokeTokenResponse(
            cursor=str(outcome.cursor),
            subscribers_connected=outcome.connected,
            subscribers_applied=outcome.applied,
        )

    async def ConfirmRevocations(
        self, request: pb.ConfirmRevocationsRequest, caller: Caller | None
    ) -> pb.ConfirmRevocationsResponse:
        """Note what a validator has applied, and say how far the log goes."""
        applied = subscription(request.applied_cursor, request.subscriber_id, "applied_cursor")
        head = await self._read_index.head()
        if request.subscriber_id and applied is not None and applied.epoch == head.epoch:
            self._validators.confirm(request.subscriber_id, min(applied.sequence, head.sequence))
        return pb.ConfirmRevocationsResponse(head_cursor=str(Cursor(head.epoch, head.sequence)))

    def _encode(self, answer: Introspection) -> bytes:
        """An answer of ValidateToken, put together from parts that are encoded once (see `stream_messages`)."""
        entry, claims = answer.entry, answer.claims
        if entry is not None:
            body = entry.encoded
            if body is None:
                message = pb.ValidateTokenResponse(active=True, claims=jwt_claims(entry.claims))
                body = entry.encoded = message.SerializeToString()
        elif isinstance(claims, OpaqueClaims):
            message = pb.ValidateTokenResponse(active=True, claims=opaque_claims(claims, self._issuer_name))
            body = message.SerializeToString()
        else:
            assert answer.reason is not None
            body = _INACTIVE[answer.reason]
        if answer.cursor != self._cursor:
            self._cursor = answer.cursor
            self._encoded_cursor = pb.ValidateTokenResponse(cursor=str(answer.cursor)).SerializeToString()
        return body + self._encoded_cursor
