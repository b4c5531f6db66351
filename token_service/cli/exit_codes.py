"""Exit codes of the commands. docs/cli.md documents them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import click

from token_service.errors import ConfigurationError, NewerSchemaError, Reason, ServiceError, TokenServiceError


class ExitCode(IntEnum):
    """What a command tells the shell."""

    OK = 0
    FAILURE = 1
    """The command failed in a way that no other code names."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    DENIED = 3
    """The caller is not authenticated, or lacks a right."""
    NOT_FOUND = 4
    """The object does not exist, or the caller may not see it."""
    UNAVAILABLE = 5
    """The service or its database did not answer, or not in time. A later attempt may succeed."""
    NO = 6
    """The command worked, and its answer is no: the token is invalid, or not all validators have confirmed."""


_CODE_OF_REASON: Final = {
    **dict.fromkeys(
        (
            Reason.CALLER_UNAUTHENTICATED,
            Reason.PERMISSION_DENIED,
            Reason.CLIENT_DISABLED,
            Reason.GRANT_TYPE_NOT_ALLOWED,
            Reason.ACCESS_DENIED,
        ),
        ExitCode.DENIED,
    ),
    **dict.fromkeys(
        (
            Reason.SESSION_NOT_FOUND,
            Reason.KEY_NOT_FOUND,
            Reason.CLIENT_NOT_FOUND,
            Reason.WEBHOOK_NOT_FOUND,
            Reason.EVENT_STREAM_NOT_FOUND,
        ),
        ExitCode.NOT_FOUND,
    ),
    **dict.fromkeys(
        (
            Reason.SHUTTING_DOWN,
            Reason.STORE_UNAVAILABLE,
            Reason.REPLICA_STALE,
            Reason.SIGNING_UNAVAILABLE,
            Reason.KEYS_STALE,
            Reason.UNREACHABLE,
            Reason.FOREIGN_KEYS_UNAVAILABLE,
            Reason.CLIENT_DOCUMENT_UNAVAILABLE,
            Reason.UPSTREAM_UNAVAILABLE,
            Reason.DEADLINE_EXCEEDED,
            Reason.OVERLOADED,
            Reason.RATE_LIMITED,
            Reason.TOO_MANY_RETRIES,
        ),
        ExitCode.UNAVAILABLE,
    ),
    **dict.fromkeys(
        (
            Reason.REFRESH_TOKEN_INVALID,
            Reason.REFRESH_TOKEN_EXPIRED,
            Reason.REFRESH_TOKEN_REUSED,
            Reason.RISK_REFUSED,
            Reason.SESSION_IDLE,
            Reason.SESSION_REVOKED,
            Reason.WRONG_CLIENT,
            Reason.WRONG_DEVICE,
            Reason.WRONG_KEY,
            Reason.GRANT_INVALID,
        ),
        ExitCode.NO,
    ),
}


def exit_code(error: TokenServiceError) -> ExitCode:
    """Return the exit code of a command that fails with an error."""
    if isinstance(error, NewerSchemaError):
        return ExitCode.FAILURE  # no setting is wrong
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, ServiceError):
        return _CODE_OF_REASON.get(error.reason, ExitCode.FAILURE)
    return ExitCode.FAILURE


class CommandFailedError(click.ClickException):
    """The failure of a command, with its message and its exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = int(code)  # type: ignore[misc]  # click reads it from the instance
