"""Pushed authorization requests (RFC 9126): a checked request in exchange for a short reference.

The reference is the sealed request itself, so nothing is stored. It may be used until it expires, because browsers load
pages again (section 4); the code that comes of it is single-use.
"""

from __future__ import annotations

from typing import Final

import msgspec

from token_service.core.keys.sealer import Sealer
from token_service.core.login.requests import AuthorizationRequest
from token_service.errors import InvalidRequestError
from token_service.tokens.opaque_token import OpaqueTokenError

REQUEST_URI_TTL: Final = 60.0
"""Seconds from the push to the authorization request."""
PREFIX: Final = "urn:ietf:params:oauth:request_uri:"


class _Pushed(msgspec.Struct, frozen=True):
    request: AuthorizationRequest
    expire_time: float


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Pushed).decode


class PushedRequests:
    """Makes and reads request URIs."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def push(self, request: AuthorizationRequest, now: float) -> str:
        """Return the `request_uri` of a checked request. Raises `InvalidRequestError` if it is too long for a URL."""
        try:
            return PREFIX + self._sealer.seal(_encode(_Pushed(request, now + REQUEST_URI_TTL)))
        except ValueError:
            raise InvalidRequestError.of("request", "is too long for a request_uri") from None

    async def read(self, request_uri: str, client_id: str, now: float) -> AuthorizationRequest:
        """Return the request that a client has pushed.

        Raises `InvalidRequestError`, `KeysStaleError`, `StoreUnavailableError`.
        """
        try:
            if not request_uri.startswith(PREFIX):
                raise OpaqueTokenError("another kind of URI", forged=False)
            pushed = _decode(await self._sealer.open(request_uri.removeprefix(PREFIX)))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise InvalidRequestError.of(
                "request_uri", "is not from the endpoint for pushed requests"
            ) from None
        if pushed.expire_time <= now:
            raise InvalidRequestError.of("request_uri", "has expired; push the request again")
        if pushed.request.client_id != client_id:
            raise InvalidRequestError.of("client_id", "is not the client that pushed the request")
        return pushed.request
