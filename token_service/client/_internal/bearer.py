"""Bearer tokens in requests: parsing, the claims of the request, and refusals (RFC 6750)."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from token_service.errors import InvalidReason, InvalidTokenError, ServiceError
from token_service.tokens.claims import VerifiedClaims
from token_service.wire import DETAILS_KEY, DOMAIN, error_to_status

CLAIMS: Final[ContextVar[VerifiedClaims]] = ContextVar("token_service_claims")


def current_claims() -> VerifiedClaims:
    """Return the claims of the request being served.

    Raises `LookupError` for a public request and outside of a checked request.
    """
    return CLAIMS.get()


def bearer_token(header: str) -> str | None:
    """Return the token of an `Authorization` header, or None for another scheme or a malformed header."""
    scheme, space, token = header.partition(" ")
    token = token.strip(" ")
    if not space or scheme.lower() != "bearer" or not token or " " in token:
        return None
    return token


def require_bearer(claims: VerifiedClaims) -> None:
    """Raise `InvalidTokenError` for a token bound to a key.

    Such a token proves nothing without a proof of the key (RFC 9449, section 7.2; RFC 8705, section 3).
    """
    if claims.confirmation:
        raise InvalidTokenError(
            InvalidReason.WRONG_TYPE,
            "the token is bound to a key, and the request does not prove possession of it",
        )


def refusal_status(
    error: InvalidTokenError | ServiceError,
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Return code, message and trailers of a refused call. The trailers hold the reason as an ErrorInfo."""
    if isinstance(error, ServiceError):
        return error_to_status(error)
    lacks = error.reason is InvalidReason.INSUFFICIENT_SCOPE
    code = grpc.StatusCode.PERMISSION_DENIED if lacks else grpc.StatusCode.UNAUTHENTICATED
    status = Status(code=code.value[0], message=error.message)
    status.details.add().Pack(ErrorInfo(reason=error.reason.value, domain=DOMAIN))
    return code, error.message, ((DETAILS_KEY, status.SerializeToString()),)
