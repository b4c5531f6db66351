"""Requests and responses of the validator's unary calls."""

from __future__ import annotations

from token_service.client._internal.clock import Instant
from token_service.client._internal.local import Answer, AskService
from token_service.errors import InvalidReason
from token_service.v1.token_pb2 import TOKEN_TYPE_TRANSACTION, TOKEN_TYPE_UNSPECIFIED
from token_service.v1.token_service_pb2 import (
    CONSISTENCY_STRONG,
    InvalidReason as InvalidReasonPb,
    ValidateTokenRequest,
    ValidateTokenResponse,
)

_PREFIX = "INVALID_REASON_"


def validate_request(question: AskService) -> ValidateTokenRequest:
    """Build a request with CONSISTENCY_STRONG: weaker reads prove nothing about recent revocations."""
    return ValidateTokenRequest(
        token=question.token,
        audience=question.audience or "",
        required_scopes=sorted(question.required_scopes),
        consistency=CONSISTENCY_STRONG,
        caller_checks_binding=True,
        token_type_hint=TOKEN_TYPE_TRANSACTION if question.is_transaction else TOKEN_TYPE_UNSPECIFIED,
    )


def answer_of(response: ValidateTokenResponse, asked: Instant) -> Answer:
    """Convert the response to a call sent at `asked`. An unknown reason becomes REVOKED."""
    if response.active:
        return Answer(None, asked)
    try:
        reason = InvalidReason(InvalidReasonPb.Name(response.reason).removeprefix(_PREFIX))
    except ValueError:
        reason = InvalidReason.REVOKED
    return Answer(reason, asked)
