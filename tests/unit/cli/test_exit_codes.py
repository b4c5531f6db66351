from __future__ import annotations

import grpc
import pytest

from token_service.cli.exit_codes import ExitCode, exit_code
from token_service.errors import (
    ConfigurationError,
    InvalidRequestError,
    PermissionDeniedError,
    PolicyViolationError,
    Reason,
    ServiceError,
)
from token_service.wire import GRPC_STATUS

_ERRORS = {error.reason: error for error in ServiceError.__subclasses__()}
_BY_STATUS = {
    grpc.StatusCode.NOT_FOUND: {ExitCode.NOT_FOUND},
    grpc.StatusCode.UNAVAILABLE: {ExitCode.UNAVAILABLE},
    grpc.StatusCode.DEADLINE_EXCEEDED: {ExitCode.UNAVAILABLE},
    grpc.StatusCode.RESOURCE_EXHAUSTED: {ExitCode.UNAVAILABLE},
    # A refused token is an answer; a refused caller is denied.
    grpc.StatusCode.UNAUTHENTICATED: {ExitCode.DENIED, ExitCode.NO},
    # A request beyond the policy is wrong, whichever caller sends it.
    grpc.StatusCode.PERMISSION_DENIED: {ExitCode.DENIED, ExitCode.NO, ExitCode.FAILURE},
}


@pytest.mark.parametrize("reason", [each for each in Reason if each is not Reason.INVALID_REQUEST])
def test_exit_code_agrees_with_the_grpc_status(reason: Reason) -> None:
    assert exit_code(_ERRORS[reason]()) in _BY_STATUS.get(GRPC_STATUS[reason], {ExitCode.FAILURE})


def test_exit_code_of_configuration_and_of_invalid_requests() -> None:
    assert exit_code(ConfigurationError("x")) == 2
    assert exit_code(InvalidRequestError.of("a", "b")) == 1


def test_request_beyond_the_policy_is_a_failure_and_a_missing_right_is_denied() -> None:
    assert exit_code(PolicyViolationError()) == 1
    assert exit_code(PermissionDeniedError()) == 3
