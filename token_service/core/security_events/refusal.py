"""The refusal of a security event token, as both ways of delivery report it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from token_service.errors import FieldViolation, InvalidReason, InvalidRequestError, InvalidTokenError


class SetErrorCode(StrEnum):
    """The registered codes (RFC 8935, section 2.4)."""

    INVALID_REQUEST = "invalid_request"
    INVALID_KEY = "invalid_key"
    INVALID_ISSUER = "invalid_issuer"
    INVALID_AUDIENCE = "invalid_audience"
    AUTHENTICATION_FAILED = "authentication_failed"


class SetRefusedError(InvalidRequestError):
    """A security event token, or its transmitter, is not accepted. Sending the token again can't succeed."""

    def __init__(self, code: SetErrorCode, problem: str) -> None:
        super().__init__([FieldViolation("security_event_token", problem)])
        self.code = code
        self.problem = problem


_CODES: Final = {
    InvalidReason.BAD_SIGNATURE: SetErrorCode.INVALID_KEY,
    InvalidReason.UNKNOWN_KEY: SetErrorCode.INVALID_KEY,
    InvalidReason.WRONG_ISSUER: SetErrorCode.INVALID_ISSUER,
    InvalidReason.WRONG_AUDIENCE: SetErrorCode.INVALID_AUDIENCE,
}


def refusal_of(error: InvalidTokenError) -> SetRefusedError:
    """Return the refusal of a token that is not valid."""
    return SetRefusedError(_CODES.get(error.reason, SetErrorCode.INVALID_REQUEST), error.message)
