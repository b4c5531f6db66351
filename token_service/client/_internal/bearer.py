"""Bearer tokens in requests: how they are found, who the request is then from, and how it is refused (RFC
6750).
"""

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
    """The claims of the request being served. Raises `LookupError` if it is public or nothing checked it."""
    return CLAIMS.get()


def bearer_token(header: str) -> str | None:
    """The token of an `Authorization` header; None if it is of another scheme or malformed."""
    scheme, space, token = header.partition(" ")
    token = token.strip(" ")
    if not space or scheme.lower() != "bearer" or not token or " " in token:
        return None
    return token


def require_bearer(claims: VerifiedClaims) -> None:
    """Raise `InvalidTokenError` for a token bound to a key: presented alone it proves nothing (RFC 9449,
    section 7.2; RFC 8705, section 3).
    """
    if claims.confirmation:
        raise InvalidTokenError(InvalidReason.WRONG_TYPE, "the token is bound to a key that was not shown")


def refusal_status(
    error: InvalidTokenError | ServiceError,
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Code, message and trailers of a call that is refused; the reason is in an ErrorInfo."""
    if isinstance(error, ServiceError):
        return error_to_status(error)
    lacks = error.reason is InvalidReason.INSUFFICIENT_SCOPE
    code = grpc.StatusCode.PERMISSION_DENIED if lacks else grpc.StatusCode.UNAUTHENTICATED
    status = Status(code=code.value[0], message=error.message)
    status.details.add().Pack(ErrorInfo(reason=error.reason.value, domain=DOMAIN))
    return code, error.message, ((DETAILS_KEY, status.SerializeToString()),)
