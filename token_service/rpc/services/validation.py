"""ValidateToken and BatchValidateTokens: convert requests, call the core, and encode each result once."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.revocation.replica import Replica
from token_service.core.validation.introspector import Introspection, Introspector, OpaqueClaims
from token_service.errors import InvalidReason
from token_service.rpc.convert.requests import token_query
from token_service.rpc.convert.responses import active_jwt, opaque_claims
from token_service.telemetry import Counter
from token_service.tokens.opaque_token import looks_opaque
from token_service.tokens.revocation import Cursor
from token_service.tokens.verified_cache import CacheEntry, TokenCache
from token_service.v1 import token_service_pb2 as pb

_ANSWERED_CAPACITY: Final = 10_000
_ENCODED_CAPACITY: Final = 20_000
"""Tokens: the number whose claims the introspector caches."""
_MAX_REMEMBERED: Final = 4096
"""Bytes of a cached request. Larger requests are rare and would take the memory of many small ones."""
_VALID: Final = "VALID"

_INACTIVE: Final = {
    reason: pb.ValidateTokenResponse(reason=f"INVALID_REASON_{reason.name}").SerializeToString()
    for reason in InvalidReason
}


class Validation:
    """The methods of TokenService that validate tokens."""

    def __init__(
        self,
        introspector: Introspector,
        replica: Replica,
        clock: Clock,
        issuer_name: str,
        verdicts: Counter | None = None,
    ) -> None:
        """`verdicts` counts the results."""
        self._introspector = introspector
        self._replica = replica
        self._clock = clock
        self._issuer_name = issuer_name
        self._verdicts = verdicts
        self._answered: dict[bytes, tuple[CacheEntry, int, bytes]] = {}
        """Responses by the encoded request of an active JWT: the cache entry behind the response, the generation of
        the keys, and the encoded response without its cursor.
        """
        self._encoded: TokenCache[tuple[CacheEntry, bytes]] = TokenCache(_ENCODED_CAPACITY)
        """Cache entry and encoded response, without its cursor, by active JWT."""
        self._cursor = Cursor("", 0)
        self._encoded_cursor = b""

    def validate_at_once(self, data: bytes, caller: Caller) -> bytes | None:
        """Answer an encoded ValidateTokenRequest from memory; return None if the answer needs I/O.

        Most requests repeat an earlier request byte for byte. While the token stays active, only the cursor of the
        response changes.
        """
        now = self._clock.now()
        known = self._answered.get(data)
        if known is not None and self._introspector.still_active(caller, known[0], known[1], now):
            if self._verdicts is not None:
                self._verdicts.add(1, _VALID)
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
        elif len(data) <= _MAX_REMEMBERED and query.is_repeatable:
            # A request seen once must not evict repeated requests, and a DPoP proof counts once.
            if len(self._answered) >= _ANSWERED_CAPACITY:
                self._answered.clear()
            self._answered[data] = entry, self._introspector.generation, encoded[1]
        if self._verdicts is not None:
            self._verdicts.add(1, _VALID)
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

    def _encode(self, answer: Introspection, token: str) -> bytes:
        """Encode a ValidateToken response from parts that are encoded once (see `rpc.stream.messages`)."""
        entry, claims = answer.entry, answer.claims
        if self._verdicts is not None:
            self._verdicts.add(1, _VALID if answer.reason is None else answer.reason.name)
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
