"""The unary calls of a validator: what is asked and how it is understood."""

from __future__ import annotations

from token_service.client.local import Answer, AskService
from token_service.errors import InvalidReason
from token_service.v1.token_service_pb2 import (
    CONSISTENCY_STRONG,
    InvalidReason as InvalidReasonPb,
    ValidateTokenRequest,
    ValidateTokenResponse,
)

_PREFIX = "INVALID_REASON_"


def validate_request(question: AskService) -> ValidateTokenRequest:
    """Ask with CONSISTENCY_STRONG: anything less proves nothing about what was revoked just now."""
    return ValidateTokenRequest(
        token=question.token,
        audience=question.audience or "",
        required_scopes=sorted(question.required_scopes),
        consistency=CONSISTENCY_STRONG,
    )


def answer_of(response: ValidateTokenResponse) -> Answer:
    """What the service said. A reason not known here is one all the same."""
    if response.active:
        return Answer(None)
    try:
        return Answer(InvalidReason(InvalidReasonPb.Name(response.reason).removeprefix(_PREFIX)))
    except ValueError:
        return Answer(InvalidReason.REVOKED)
