"""Every error on the wire: its status, its reason, and its conversion back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from token_service import wire
from token_service.errors import (
    FieldViolation,
    InternalError,
    InvalidReason,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    Reason,
    ServiceError,
)
from token_service.v1 import error_reason_pb2, token_service_pb2

REPOSITORY = Path(__file__).resolve().parents[2]
ERRORS = ServiceError.__subclasses__()

PINNED = {
    "INVALID_REQUEST": ("INVALID_ARGUMENT", 400),
    "CALLER_UNAUTHENTICATED": ("UNAUTHENTICATED", 401),
    "PERMISSION_DENIED": ("PERMISSION_DENIED", 403),
    "RESERVED_CLAIM": ("INVALID_ARGUMENT", 400),
    "CUSTOM_CLAIMS_TOO_LARGE": ("INVALID_ARGUMENT", 400),
    "REQUEST_ID_REUSED": ("ALREADY_EXISTS", 409),
    "BINDING_REQUIRED": ("FAILED_PRECONDITION", 400),
    "REFRESH_TOKEN_INVALID": ("UNAUTHENTICATED", 401),
    "REFRESH_TOKEN_EXPIRED": ("UNAUTHENTICATED", 401),
    "SESSION_IDLE": ("UNAUTHENTICATED", 401),
    "SESSION_REVOKED": ("UNAUTHENTICATED", 401),
    "REFRESH_TOKEN_REUSED": ("UNAUTHENTICATED", 401),
    "WRONG_CLIENT": ("PERMISSION_DENIED", 403),
    "WRONG_DEVICE": ("PERMISSION_DENIED", 403),
    "SCOPE_EXCEEDED": ("INVALID_ARGUMENT", 400),
    "TOO_MANY_RETRIES": ("RESOURCE_EXHAUSTED", 429),
    "SESSION_NOT_FOUND": ("NOT_FOUND", 404),
    "SESSION_NOT_ACTIVE": ("FAILED_PRECONDITION", 400),
    "STREAM_ENDED": ("ABORTED", 409),
    "SHUTTING_DOWN": ("UNAVAILABLE", 503),
    "STORE_UNAVAILABLE": ("UNAVAILABLE", 503),
    "REPLICA_STALE": ("UNAVAILABLE", 503),
    "OVERLOADED": ("RESOURCE_EXHAUSTED", 429),
    "DEADLINE_EXCEEDED": ("DEADLINE_EXCEEDED", 504),
    "INTERNAL": ("INTERNAL", 500),
    "SIGNING_UNAVAILABLE": ("UNAVAILABLE", 503),
    "KEY_NOT_FOUND": ("NOT_FOUND", 404),
    "POLICY_VIOLATION": ("PERMISSION_DENIED", 403),
    "KEY_NOT_ANNOUNCED": ("FAILED_PRECONDITION", 400),
    "KEY_STATE": ("FAILED_PRECONDITION", 400),
    "KEYS_STALE": ("UNAVAILABLE", 503),
    "UNREACHABLE": ("UNAVAILABLE", 503),
    "CLIENT_NOT_FOUND": ("NOT_FOUND", 404),
    "CLIENT_EXISTS": ("ALREADY_EXISTS", 409),
    "CLIENT_CHANGED": ("ABORTED", 409),
    "POLICIES_CHANGED": ("ABORTED", 409),
    "REFRESH_RACE": ("ABORTED", 409),
    "RISK_REFUSED": ("PERMISSION_DENIED", 403),
    "EVENTS_EXPIRED": ("OUT_OF_RANGE", 400),
    "EVENT_STREAM_NOT_FOUND": ("NOT_FOUND", 404),
    "TOO_MANY_EVENT_STREAMS": ("ALREADY_EXISTS", 409),
    "WEBHOOK_NOT_FOUND": ("NOT_FOUND", 404),
    "WEBHOOK_CHANGED": ("ABORTED", 409),
    "CLIENT_DISABLED": ("PERMISSION_DENIED", 403),
    "CUSTOM_CLAIM_NOT_ALLOWED": ("INVALID_ARGUMENT", 400),
    "FOREIGN_KEYS_UNAVAILABLE": ("UNAVAILABLE", 503),
    "CLIENT_DOCUMENT_UNAVAILABLE": ("UNAVAILABLE", 503),
    "RATE_LIMITED": ("RESOURCE_EXHAUSTED", 429),
    "GRANT_INVALID": ("UNAUTHENTICATED", 401),
    "GRANT_TYPE_NOT_ALLOWED": ("PERMISSION_DENIED", 403),
    "GRANT_TYPE_UNKNOWN": ("INVALID_ARGUMENT", 400),
    "ACCESS_DENIED": ("PERMISSION_DENIED", 403),
    "LOGIN_REQUIRED": ("FAILED_PRECONDITION", 400),
    "CONSENT_REQUIRED": ("FAILED_PRECONDITION", 400),
    "RESPONSE_TYPE_UNKNOWN": ("INVALID_ARGUMENT", 400),
    "AUTHENTICATION_INSUFFICIENT": ("FAILED_PRECONDITION", 400),
    "AUTHORIZATION_PENDING": ("FAILED_PRECONDITION", 400),
    "SLOW_DOWN": ("FAILED_PRECONDITION", 400),
    "DEVICE_CODE_EXPIRED": ("FAILED_PRECONDITION", 400),
    "PUSHED_REQUEST_REQUIRED": ("FAILED_PRECONDITION", 400),
    "SUBJECT_TOKEN_INVALID": ("INVALID_ARGUMENT", 400),
    "UPSTREAM_UNAVAILABLE": ("UNAVAILABLE", 503),
    "PROOF_INVALID": ("INVALID_ARGUMENT", 400),
    "PROOF_NONCE_REQUIRED": ("FAILED_PRECONDITION", 400),
    "WRONG_KEY": ("PERMISSION_DENIED", 403),
}


class FailedCall(grpc.RpcError):
    """A failed call with the methods that `grpc` and `grpc.aio` share."""

    def __init__(self, code: Any, details: str | None, trailers: Any = ()) -> None:
        super().__init__()
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> Any:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers


def make(cls: type[ServiceError], **kwargs: Any) -> ServiceError:
    if cls is InvalidRequestError:
        return InvalidRequestError(
            [FieldViolation("scopes[3]", "is too long"), FieldViolation("subject", "is required")]
        )
    return cls(**kwargs)


def sent(error: ServiceError) -> FailedCall:
    return FailedCall(*wire.error_to_status(error))


def test_each_reason_has_its_pinned_status() -> None:
    assert {reason.value for reason in Reason} == set(PINNED)
    for reason in Reason:
        assert (wire.GRPC_STATUS[reason].name, wire.HTTP_STATUS[reason]) == PINNED[reason.value]


def test_the_proto_documents_the_status_of_each_reason() -> None:
    lines = (
        (REPOSITORY / "protos/token_service/v1/error_reason.proto").read_text(encoding="utf-8").splitlines()
    )
    for reason in Reason:
        at = next(n for n, line in enumerate(lines) if f" ERROR_REASON_{reason.value} = " in line)
        while lines[at - 1].lstrip().startswith("//"):
            at -= 1
        assert lines[at].lstrip("/ ").startswith(wire.GRPC_STATUS[reason].name + ". "), reason


def test_reasons_match_the_proto() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == {reason.name for reason in Reason}
    assert all(reason.name == reason.value for reason in Reason)
    names = {name.removeprefix("INVALID_REASON_") for name in token_service_pb2.InvalidReason.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == {reason.name for reason in InvalidReason}
    assert all(reason.name == reason.value for reason in InvalidReason)


def test_each_reason_has_one_error_class() -> None:
    assert sorted(error.reason for error in ERRORS) == sorted(Reason)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_error_round_trips_with_details(cls: type[ServiceError]) -> None:
    error = make(cls, message="what happened", metadata={"claim": "sub"}, retry_after=1.25)
    back = wire.error_from_rpc(sent(error))
    assert type(back) is cls
    assert back.message == error.message
    if isinstance(error, InvalidRequestError):
        assert isinstance(back, InvalidRequestError)
        assert back.violations == error.violations
    else:
        assert (back.metadata, back.retry_after) == ({"claim": "sub"}, 1.25)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_error_round_trips_without_details(cls: type[ServiceError]) -> None:
    error = make(cls)
    back = wire.error_from_rpc(sent(error))
    assert (type(back), back.message, back.retry_after) == (cls, error.message, None)
    assert back.metadata == {}


def test_trailers_hold_error_info_and_retry_info() -> None:
    code, message, trailers = wire.error_to_status(OverloadedError(metadata={"limit": "5"}, retry_after=0.5))
    ((key, value),) = trailers
    assert key == "grpc-status-details-bin"
    status = Status.FromString(value)
    assert (status.code, status.message) == (code.value[0], message)
    info, retry = ErrorInfo(), RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain, dict(info.metadata)) == ("OVERLOADED", "token_service", {"limit": "5"})
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (0, 500_000_000)


def test_field_violations_are_sent_as_bad_request() -> None:
    status = Status.FromString(
        wire.error_to_status(InvalidRequestError.of("subject", "is required"))[2][0][1]
    )
    request = BadRequest()
    assert status.details[1].Unpack(request)
    assert [(v.field, v.description) for v in request.field_violations] == [("subject", "is required")]


@pytest.mark.parametrize("filler", ["x", "€", "\U0001f511", "\n", "\ud800"])
def test_huge_error_fits_into_trailers(filler: str) -> None:
    error = InvalidRequestError([FieldViolation(filler * 5000, filler * 5000)] * 1000)
    _, message, trailers = wire.error_to_status(error)
    assert len(message.encode()) * 3 + len(trailers[0][1]) * 4 / 3 < 8192 - 512
    back = wire.error_from_rpc(sent(error))
    assert isinstance(back, InvalidRequestError)
    assert back.violations


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, Reason.UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED),
        (grpc.StatusCode.UNAUTHENTICATED, Reason.CALLER_UNAUTHENTICATED),
        (grpc.StatusCode.PERMISSION_DENIED, Reason.PERMISSION_DENIED),
        (grpc.StatusCode.INVALID_ARGUMENT, Reason.INVALID_REQUEST),
        (grpc.StatusCode.ABORTED, Reason.STREAM_ENDED),
        (grpc.StatusCode.CANCELLED, Reason.SHUTTING_DOWN),
        (grpc.StatusCode.UNIMPLEMENTED, Reason.INTERNAL),
        (grpc.StatusCode.UNKNOWN, Reason.INTERNAL),
        (None, Reason.INTERNAL),
    ],
)
@pytest.mark.parametrize("trailers", [None, (), (("x", "y"),), ((wire.DETAILS_KEY, b"\xff\xff"),)])
def test_status_without_reason_becomes_the_nearest_error(code: Any, reason: Reason, trailers: Any) -> None:
    error = wire.error_from_rpc(FailedCall(code, "connection refused", trailers))
    assert (error.reason, error.retry_after) == (reason, None)
    assert "connection refused" in error.message


def test_bare_rpc_error_becomes_internal_error() -> None:
    assert type(wire.error_from_rpc(grpc.RpcError())) is InternalError
    assert (
        wire.error_from_rpc(FailedCall(grpc.StatusCode.UNKNOWN, None)).message
        == InternalError.default_message
    )


def test_unknown_reason_is_kept_in_metadata() -> None:
    status = Status(code=7)
    status.details.add().Pack(ErrorInfo(reason="BRAND_NEW", domain="token_service", metadata={"a": "b"}))
    trailers = ((wire.DETAILS_KEY, status.SerializeToString()),)
    error = wire.error_from_rpc(FailedCall(grpc.StatusCode.PERMISSION_DENIED, "no", trailers))
    assert type(error) is PermissionDeniedError
    assert error.metadata == {"a": "b", "grpc_code": "PERMISSION_DENIED", "reason": "BRAND_NEW"}


def test_reason_of_another_domain_is_ignored() -> None:
    status = Status(code=14)
    status.details.add().Pack(ErrorInfo(reason="SESSION_REVOKED", domain="example.com"))
    trailers = ((wire.DETAILS_KEY, status.SerializeToString()),)
    error = wire.error_from_rpc(FailedCall(grpc.StatusCode.UNAVAILABLE, "no", trailers))
    assert error.reason is Reason.UNREACHABLE
    assert error.metadata == {"grpc_code": "UNAVAILABLE"}


def test_damaged_details_are_ignored() -> None:
    status = Status(code=14)
    status.details.append(AnyMessage(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff"))
    status.details.add().Pack(RetryInfo())
    trailers = ((wire.DETAILS_KEY, status.SerializeToString()),)
    error = wire.error_from_rpc(FailedCall(grpc.StatusCode.UNAVAILABLE, "no", trailers))
    assert (error.reason, error.retry_after) == (Reason.UNREACHABLE, 0.0)
