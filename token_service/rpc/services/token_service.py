"""TokenService: convert, call, convert."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.permissions import Permission
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.refresher import Refresher
from token_service.core.limits import MAX_BATCH
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import Revoker
from token_service.core.subscribers.registry import Validators
from token_service.core.validation.introspector import Introspection, Introspector, OpaqueClaims
from token_service.errors import InvalidReason, InvalidRequestError
from token_service.rpc.convert.requests import (
    is_local,
    is_waiting,
    issue_command,
    refresh_command,
    revoke_command,
    subscription,
    token_query,
)
from token_service.rpc.convert.responses import active_jwt, issued_tokens, opaque_claims
from token_service.rpc.server.service import StreamMethod, UnaryMethod
from token_service.rpc.stream.feed import Feed
from token_service.tokens.opaque_token import looks_opaque
from token_service.tokens.revocation import Cursor, RevocationTarget
from token_service.tokens.verified_cache import CacheEntry
from token_service.v1 import token_service_pb2 as pb

_ADMIN_TARGETS: Final = frozenset({RevocationTarget.KEY, RevocationTarget.EVERYTHING})
_PAUSE_EVERY: Final = 32
"""Tokens of a batch between two pauses, each of which lets other calls go on."""
_ANSWERED_CAPACITY: Final = 10_000
_MAX_REMEMBERED: Final = 4096
"""Bytes of a request; larger ones are rare and would take up the memory of many."""

_INACTIVE: Final = {
    reason: pb.ValidateTokenResponse(reason=f"INVALID_REASON_{reason.name}").SerializeToString()
    for reason in InvalidReason
}


class TokenService:
    """The methods of TokenService. Its streams are those of `Feed`."""

    name: Final = pb.DESCRIPTOR.services_by_name["TokenService"].full_name

    def __init__(
        self,
        issuer: Issuer,
        refresher: Refresher,
        revoker: Revoker,
        introspector: Introspector,
        replica: Replica,
        read_index: ReadIndex,
        validators: Validators,
        clock: Clock,
        issuer_name: str,
        feed: Feed,
    ) -> None:
        self._issuer = issuer
        self._refresher = refresher
        self._revoker = revoker
        self._introspector = introspector
        self._replica = replica
        self._read_index = read_index
        self._validators = validators
        self._clock = clock
        self._issuer_name = issuer_name
        self._feed = feed
        self._answered: dict[bytes, tuple[CacheEntry, int]] = {}
        """What an active JWT was answered from, and the generation of the keys, by encoded request."""
        self._cursor = Cursor("", 0)
        self._encoded_cursor = b""

    @property
    def is_serving(self) -> bool:
        """Whether this node knows enough of the revocation log to answer."""
        return self._feed.is_fresh

    def methods(self) -> Sequence[UnaryMethod | StreamMethod]:
        """See `Service`."""
        validate = Permission.VALIDATE
        return (
            UnaryMethod("IssueToken", Permission.ISSUE, pb.IssueTokenRequest, self.IssueToken),
            UnaryMethod(
                "ValidateToken",
                validate,
                pb.ValidateTokenRequest,
                self.ValidateToken,
                at_once=self.validate_at_once,
            ),
            UnaryMethod(
                "BatchValidateTokens", validate, pb.BatchValidateTokensRequest, self.BatchValidateTokens
            ),
            UnaryMethod("RefreshToken", Permission.REFRESH, pb.RefreshTokenRequest, self.RefreshToken),
            UnaryMethod(
                "RevokeToken", Permission.REVOKE, pb.RevokeTokenRequest, self.RevokeToken, waits=is_waiting
            ),
            UnaryMethod(
                "ConfirmRevocations",
                Permission.SUBSCRIBE,
                pb.ConfirmRevocationsRequest,
                self.ConfirmRevocations,
            ),
            StreamMethod("StreamRevocations", Permission.SUBSCRIBE, pb.StreamRevocationsRequest, self._feed),
        )

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

    def validate_at_once(self, data: bytes) -> bytes | None:
        """The answer to an encoded ValidateTokenRequest where this process knows it; None where that takes
        I/O.

        Most requests were seen before, byte for byte; where the token is still good so is the answer, but for
        its cursor.
        """
        now = self._clock.now()
        known = self._answered.get(data)
        if known is not None and self._introspector.still_active(*known, now):
            return self._with_cursor(known[0].encoded or b"", self._replica.epoch, self._replica.applied)
        request = pb.ValidateTokenRequest.FromString(data)
        if looks_opaque(request.token) or not is_local(request):
            return None
        answer = self._introspector.validate_jwt(token_query(request), now)
        if answer.reason is InvalidReason.UNKNOWN_KEY:
            return None
        entry = answer.entry
        # What comes once is not worth remembering, and must not drive out what is.
        if entry is not None and entry.encoded is not None and len(data) <= _MAX_REMEMBERED:
            if len(self._answered) >= _ANSWERED_CAPACITY:
                self._answered.clear()
            self._answered[data] = entry, self._introspector.generation
        return self._encode(answer)

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
        asked = self._clock.monotonic()
        queries = [token_query(item, f"requests[{number}].") for number, item in enumerate(request.requests)]
        if not all(map(is_local, request.requests)):
            await self._introspector.catch_up()
        response = pb.BatchValidateTokensResponse()
        for number, query in enumerate(queries):
            if number % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                await asyncio.sleep(0)
            answer = self._encode(await self._introspector.validate(query, self._clock.now(), asked=asked))
            response.responses.add().MergeFromString(answer)
        return response

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, caller: Caller | None
    ) -> pb.RevokeTokenResponse:
        """Revoke one thing."""
        command = revoke_command(request)
        if command.target in _ADMIN_TARGETS and caller is not None:
            caller.require(Permission.ADMIN)
        outcome = await self._revoker.revoke(
            command, self._clock.now(), caller.identity if caller is not None else ""
        )
        return pb.RevokeTokenResponse(
            cursor=str(outcome.cursor),
            subscribers_connected=outcome.connected,
            subscribers_applied=outcome.applied,
            subscribers_silent=outcome.silent,
        )

    async def ConfirmRevocations(
        self, request: pb.ConfirmRevocationsRequest, caller: Caller | None
    ) -> pb.ConfirmRevocationsResponse:
        """Note what a validator has applied, and say how far the log goes."""
        applied = subscription(request.applied_cursor, request.subscriber_id, "applied_cursor")
        head = await self._read_index.head()
        if request.subscriber_id and applied is not None and applied.epoch == head.epoch:
            sequence = min(applied.sequence, head.sequence)
            subscriber = request.subscriber_id if caller is None else caller.subscriber(request.subscriber_id)
            self._validators.confirm(
                subscriber,
                sequence,
                request.key_set_revision,
                caller="" if caller is None else caller.identity,
            )
        return pb.ConfirmRevocationsResponse(head_cursor=str(Cursor(head.epoch, head.sequence)))

    def _encode(self, answer: Introspection) -> bytes:
        """An answer of ValidateToken, put together from parts that are encoded once (see `stream_messages`)."""
        entry, claims = answer.entry, answer.claims
        if entry is not None:
            body = entry.encoded
            if body is None:
                body = entry.encoded = active_jwt(entry.claims).SerializeToString()
        elif isinstance(claims, OpaqueClaims):
            message = pb.ValidateTokenResponse(active=True, claims=opaque_claims(claims, self._issuer_name))
            body = message.SerializeToString()
        else:
            assert answer.reason is not None
            body = _INACTIVE[answer.reason]
        return self._with_cursor(body, answer.cursor.epoch, answer.cursor.sequence)

    def _with_cursor(self, body: bytes, epoch: str, sequence: int) -> bytes:
        if sequence != self._cursor.sequence or epoch != self._cursor.epoch:
            self._cursor = Cursor(epoch, sequence)
            self._encoded_cursor = pb.ValidateTokenResponse(cursor=str(self._cursor)).SerializeToString()
        return body + self._encoded_cursor
