"""TokenService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.refresher import Refresher
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import Revoker
from token_service.core.validation.introspector import Introspection, Introspector, OpaqueClaims
from token_service.errors import InvalidReason
from token_service.rpc.convert.requests import (
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
from token_service.tokens.revocation import Cursor
from token_service.tokens.verified_cache import CacheEntry, TokenCache
from token_service.v1 import token_service_pb2 as pb

_ANSWERED_CAPACITY: Final = 10_000
_ENCODED_CAPACITY: Final = 20_000
"""Tokens: the number whose claims the introspector caches."""
_MAX_REMEMBERED: Final = 4096
"""Bytes of a cached request. Larger requests are rare and would take the memory of many small ones."""

_INACTIVE: Final = {
    reason: pb.ValidateTokenResponse(reason=f"INVALID_REASON_{reason.name}").SerializeToString()
    for reason in InvalidReason
}


class TokenService:
    """The methods of TokenService. `Feed` serves its streams."""

    name: Final = pb.DESCRIPTOR.services_by_name["TokenService"].full_name

    def __init__(
        self,
        issuer: Issuer,
        refresher: Refresher,
        revoker: Revoker,
        introspector: Introspector,
        replica: Replica,
        confirmations: Confirmations,
        clock: Clock,
        issuer_name: str,
        feed: Feed,
    ) -> None:
        self._issuer = issuer
        self._refresher = refresher
        self._revoker = revoker
        self._introspector = introspector
        self._replica = replica
        self._confirmations = confirmations
        self._clock = clock
        self._issuer_name = issuer_name
        self._feed = feed
        self._answered: dict[bytes, tuple[CacheEntry, int, bytes]] = {}
        """Responses by the encoded request of an active JWT: the cache entry behind the response, the generation of
        the keys, and the encoded response without its cursor.
        """
        self._encoded: TokenCache[tuple[CacheEntry, bytes]] = TokenCache(_ENCODED_CAPACITY)
        """Cache entry and encoded response, without its cursor, by active JWT."""
        self._cursor = Cursor("", 0)
        self._encoded_cursor = b""

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
                self.ValidateToken,
                at_once=self.validate_at_once,
            ),
            UnaryMethod("BatchValidateTokens", pb.BatchValidateTokensRequest, self.BatchValidateTokens),
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
        tokens = await self._refresher.refresh(caller, refresh_command(request), self._clock.now())
        return issued_tokens(pb.RefreshTokenResponse, tokens)

    def validate_at_once(self, data: bytes, caller: Caller) -> bytes | None:
        """Answer an encoded ValidateTokenRequest from memory; return None if the answer needs I/O.

        Most requests repeat an earlier request byte for byte. While the token stays active, only the cursor of the
        response changes.
        """
        now = self._clock.now()
        known = self._answered.get(data)
        if known is not None and self._introspector.still_active(caller, known[0], known[1], now):
            return self._with_cursor(known[2], self._replica.epoch, self._replica.applied)
        request = pb.ValidateTokenRequest.FromString(data)
        query = token_query(request)
        if query.strong or looks_opaque(query.token):
            return None
        answer = self._introspector.validate_jwt(caller, query, now)
        entry = answer.entry
        if entry is None:
            return None if answer.reason is InvalidReason.UNKNOWN_KEY else self._encode(answer, query.token)
        encoded = self._encoded.get(query.token)
        if encoded is None or encoded[0] is not entry:
            encoded = self._put_encoded(query.token, entry)
        elif len(data) <= _MAX_REMEMBERED:  # a request seen once must not evict repeated requests
            if len(self._answered) >= _ANSWERED_CAPACITY:
                self._answered.clear()
            self._answered[data] = entry, self._introspector.generation, encoded[1]
        return self._with_cursor(encoded[1], answer.cursor.epoch, answer.cursor.sequence)

    async def ValidateToken(self, request: pb.ValidateTokenRequest, caller: Caller) -> bytes:
        """Validate a token, with I/O where necessary."""
        answer = await self._introspector.validate(caller, token_query(request))
        return self._encode(answer, request.token)

    async def BatchValidateTokens(
        self, request: pb.BatchValidateTokensRequest, caller: Caller
    ) -> pb.BatchValidateTokensResponse:
        """Validate several tokens."""
        requests = request.requests
        answers = self._introspector.validate_batch(
            caller,
            len(requests),
            (token_query(item, f"requests[{number}].") for number, item in enumerate(requests)),
        )
        response = pb.BatchValidateTokensResponse()
        tokens = (item.token for item in requests)
        async for answer in answers:
            response.responses.add().MergeFromString(self._encode(answer, next(tokens)))
        return response

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
            caller, request.subscriber_id, applied, request.key_set_revision
        )
        return pb.ConfirmRevocationsResponse(head_cursor=str(head))

    def _encode(self, answer: Introspection, token: str) -> bytes:
        """Encode a ValidateToken response from parts that are encoded once (see `rpc.stream.messages`)."""
        entry, claims = answer.entry, answer.claims
        if entry is not None:
            encoded = self._encoded.get(token)
            if encoded is None or encoded[0] is not entry:
                encoded = self._put_encoded(token, entry)
            body = encoded[1]
        elif isinstance(claims, OpaqueClaims):
            message = pb.ValidateTokenResponse(active=True, claims=opaque_claims(claims, self._issuer_name))
            body = message.SerializeToString()
        else:
            assert answer.reason is not None
            body = _INACTIVE[answer.reason]
        return self._with_cursor(body, answer.cursor.epoch, answer.cursor.sequence)

    def _put_encoded(self, token: str, entry: CacheEntry) -> tuple[CacheEntry, bytes]:
        encoded = entry, active_jwt(entry.claims).SerializeToString()
        self._encoded.put(token, encoded)
        return encoded

    def _with_cursor(self, body: bytes, epoch: str, sequence: int) -> bytes:
        if sequence != self._cursor.sequence or epoch != self._cursor.epoch:
            self._cursor = Cursor(epoch, sequence)
            self._encoded_cursor = pb.ValidateTokenResponse(cursor=str(self._cursor)).SerializeToString()
        return body + self._encoded_cursor
