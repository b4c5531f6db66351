"""Refusals of gRPC calls: code, message and trailing metadata."""

from __future__ import annotations

from typing import Final, TypeAlias

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from token_service.client.requirements import Requirements
from token_service.errors import InvalidReason, InvalidTokenError, ServiceError
from token_service.wire import DETAILS_KEY, DOMAIN, error_to_status

NONCE_KEY: Final = "dpop-nonce"
"""The trailing metadata with the nonce that the next DPoP proof of the caller needs."""
_FORBIDDEN: Final = frozenset({InvalidReason.INSUFFICIENT_SCOPE, InvalidReason.MISSING_ROLE})

RefusalStatus: TypeAlias = tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]
"""Code, message and trailing metadata of a refused call."""


class RefusedError(Exception):
    """A call is refused, with this status."""

    def __init__(self, status: RefusalStatus) -> None:
        super().__init__(status[1])
        self.status = status


def refusal_status(
    error: InvalidTokenError | ServiceError, required: Requirements, nonce: str | None = None
) -> RefusalStatus:
    """Return the status of a refusal. The trailers hold the reason as an ErrorInfo.

    Its metadata say what to obtain: `scope`, or `acr_values` and `max_age` for a new authentication (RFC 9470). `nonce` is the
    current DPoP nonce; None: nonces are not required.
    """
    if isinstance(error, ServiceError):
        code, message, trailers = error_to_status(error)
    else:
        message = error.message
        code = (
            grpc.StatusCode.PERMISSION_DENIED
            if error.reason in _FORBIDDEN
            else grpc.StatusCode.UNAUTHENTICATED
        )
        status = Status(code=code.value[0], message=message)
        info = ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=_metadata(error.reason, required))
        status.details.add().Pack(info)
        trailers = ((DETAILS_KEY, status.SerializeToString()),)
    if nonce is not None:
        trailers = (*trailers, (NONCE_KEY, nonce))
    return code, message, trailers


def _metadata(reason: InvalidReason, required: Requirements) -> dict[str, str]:
    if reason is InvalidReason.INSUFFICIENT_SCOPE:
        return {"scope": " ".join(sorted(required.scopes))}
    if reason is not InvalidReason.INSUFFICIENT_AUTHENTICATION:
        return {}
    found: dict[str, str] = {}
    if required.acr_values:
        found["acr_values"] = " ".join(required.acr_values)
    if required.max_age is not None:
        found["max_age"] = str(int(required.max_age))
    return found
