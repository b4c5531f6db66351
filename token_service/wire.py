"""Errors on the wire: `ServiceError` <-> google.rpc.Status with its details, in both directions.

Only this module maps a `Reason` to its gRPC status and its HTTP status. A status carries

- google.rpc.ErrorInfo: `reason`, the domain `token_service` and the error's metadata, always;
- google.rpc.BadRequest: the field violations of an `InvalidRequestError`;
- google.rpc.RetryInfo: the delay before a retry, if a retry may succeed.
- google.rpc.RequestInfo: the id of the request, which its log lines have, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from token_service.errors import (
    CallerUnauthenticatedError,
    DeadlineExceededError,
    FieldViolation,
    GrantInvalidError,
    GrantTypeUnknownError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    ProofInvalidError,
    ProofNonceRequiredError,
    Reason,
    ScopeExceededError,
    ServiceError,
    ShuttingDownError,
    StreamEndedError,
    UnreachableError,
)

DOMAIN: Final = "token_service"
"""The `domain` of every ErrorInfo of the token service."""

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailer that carries a serialized google.rpc.Status."""

DPOP_NONCE_KEY: Final = "dpop-nonce"
"""The trailer that carries the nonce for the next DPoP proof, like the header of RFC 9449, section 8."""

# Most peers refuse trailers larger than 8 KiB, and the reason would be lost with the trailers. The message is sent
# twice, once percent-encoded. The details are base64 encoded.
_MAX_MESSAGE: Final = 512
_MAX_DETAIL: Final = 192
_MAX_VIOLATIONS: Final = 8

_Code = grpc.StatusCode

GRPC_STATUS: Final[Mapping[Reason, grpc.StatusCode]] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: _Code.INVALID_ARGUMENT,
        Reason.CALLER_UNAUTHENTICATED: _Code.UNAUTHENTICATED,
        Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
        Reason.RESERVED_CLAIM: _Code.INVALID_ARGUMENT,
        Reason.CUSTOM_CLAIMS_TOO_LARGE: _Code.INVALID_ARGUMENT,
        Reason.REQUEST_ID_REUSED: _Code.ALREADY_EXISTS,
        Reason.BINDING_REQUIRED: _Code.FAILED_PRECONDITION,
        Reason.REFRESH_TOKEN_INVALID: _Code.UNAUTHENTICATED,
        Reason.REFRESH_TOKEN_EXPIRED: _Code.UNAUTHENTICATED,
        Reason.SESSION_IDLE: _Code.UNAUTHENTICATED,
        Reason.SESSION_REVOKED: _Code.UNAUTHENTICATED,
        Reason.REFRESH_TOKEN_REUSED: _Code.UNAUTHENTICATED,
        Reason.WRONG_CLIENT: _Code.PERMISSION_DENIED,
        Reason.WRONG_DEVICE: _Code.PERMISSION_DENIED,
        Reason.SCOPE_EXCEEDED: _Code.INVALID_ARGUMENT,
        Reason.TOO_MANY_RETRIES: _Code.RESOURCE_EXHAUSTED,
        Reason.SESSION_NOT_FOUND: _Code.NOT_FOUND,
        Reason.SESSION_NOT_ACTIVE: _Code.FAILED_PRECONDITION,
        Reason.STREAM_ENDED: _Code.ABORTED,
        Reason.SHUTTING_DOWN: _Code.UNAVAILABLE,
        Reason.STORE_UNAVAILABLE: _Code.UNAVAILABLE,
        Reason.REPLICA_STALE: _Code.UNAVAILABLE,
        Reason.OVERLOADED: _Code.RESOURCE_EXHAUSTED,
        Reason.DEADLINE_EXCEEDED: _Code.DEADLINE_EXCEEDED,
        Reason.INTERNAL: _Code.INTERNAL,
        Reason.SIGNING_UNAVAILABLE: _Code.UNAVAILABLE,
        Reason.KEY_NOT_FOUND: _Code.NOT_FOUND,
        Reason.POLICY_VIOLATION: _Code.PERMISSION_DENIED,
        Reason.KEY_NOT_ANNOUNCED: _Code.FAILED_PRECONDITION,
        Reason.KEY_STATE: _Code.FAILED_PRECONDITION,
        Reason.KEYS_STALE: _Code.UNAVAILABLE,
        Reason.UNREACHABLE: _Code.UNAVAILABLE,
        Reason.CLIENT_NOT_FOUND: _Code.NOT_FOUND,
        Reason.CLIENT_EXISTS: _Code.ALREADY_EXISTS,
        Reason.CLIENT_CHANGED: _Code.ABORTED,
        Reason.POLICIES_CHANGED: _Code.ABORTED,
        Reason.REFRESH_RACE: _Code.ABORTED,
        Reason.RISK_REFUSED: _Code.PERMISSION_DENIED,
        Reason.EVENTS_EXPIRED: _Code.OUT_OF_RANGE,
        Reason.EVENT_STREAM_NOT_FOUND: _Code.NOT_FOUND,
        Reason.TOO_MANY_EVENT_STREAMS: _Code.ALREADY_EXISTS,
        Reason.WEBHOOK_NOT_FOUND: _Code.NOT_FOUND,
        Reason.WEBHOOK_CHANGED: _Code.ABORTED,
        Reason.CLIENT_DISABLED: _Code.PERMISSION_DENIED,
        Reason.CUSTOM_CLAIM_NOT_ALLOWED: _Code.INVALID_ARGUMENT,
        Reason.FOREIGN_KEYS_UNAVAILABLE: _Code.UNAVAILABLE,
        Reason.CLIENT_DOCUMENT_UNAVAILABLE: _Code.UNAVAILABLE,
        Reason.RATE_LIMITED: _Code.RESOURCE_EXHAUSTED,
        Reason.GRANT_INVALID: _Code.UNAUTHENTICATED,
        Reason.GRANT_TYPE_NOT_ALLOWED: _Code.PERMISSION_DENIED,
        Reason.GRANT_TYPE_UNKNOWN: _Code.INVALID_ARGUMENT,
        Reason.ACCESS_DENIED: _Code.PERMISSION_DENIED,
        Reason.LOGIN_REQUIRED: _Code.FAILED_PRECONDITION,
        Reason.CONSENT_REQUIRED: _Code.FAILED_PRECONDITION,
        Reason.RESPONSE_TYPE_UNKNOWN: _Code.INVALID_ARGUMENT,
        Reason.AUTHENTICATION_INSUFFICIENT: _Code.FAILED_PRECONDITION,
        Reason.AUTHORIZATION_PENDING: _Code.FAILED_PRECONDITION,
        Reason.SLOW_DOWN: _Code.FAILED_PRECONDITION,
        Reason.DEVICE_CODE_EXPIRED: _Code.FAILED_PRECONDITION,
        Reason.PUSHED_REQUEST_REQUIRED: _Code.FAILED_PRECONDITION,
        Reason.SUBJECT_TOKEN_INVALID: _Code.INVALID_ARGUMENT,
        Reason.UPSTREAM_UNAVAILABLE: _Code.UNAVAILABLE,
        Reason.PROOF_INVALID: _Code.INVALID_ARGUMENT,
        Reason.PROOF_NONCE_REQUIRED: _Code.FAILED_PRECONDITION,
        Reason.WRONG_KEY: _Code.PERMISSION_DENIED,
    }
)
"""The gRPC status of each reason, as `error_reason.proto` documents it."""

_HTTP_OF_CODE: Final[Mapping[grpc.StatusCode, int]] = {
    _Code.INVALID_ARGUMENT: 400,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNAUTHENTICATED: 401,
    _Code.PERMISSION_DENIED: 403,
    _Code.ALREADY_EXISTS: 409,
    _Code.FAILED_PRECONDITION: 400,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.NOT_FOUND: 404,
    _Code.ABORTED: 409,
    _Code.UNAVAILABLE: 503,
    _Code.DEADLINE_EXCEEDED: 504,
    _Code.INTERNAL: 500,
}

HTTP_STATUS: Final[Mapping[Reason, int]] = MappingProxyType(
    {reason: _HTTP_OF_CODE[code] for reason, code in GRPC_STATUS.items()}
)
"""The HTTP status of each reason, by the mapping of google.rpc.Code."""

_OAUTH_ERRORS: Final[Mapping[str, tuple[Reason, ...]]] = {
    "invalid_request": (
        Reason.INVALID_REQUEST,
        Reason.SUBJECT_TOKEN_INVALID,
        Reason.RESERVED_CLAIM,
        Reason.CUSTOM_CLAIMS_TOO_LARGE,
        Reason.CUSTOM_CLAIM_NOT_ALLOWED,
        Reason.REQUEST_ID_REUSED,
        Reason.BINDING_REQUIRED,
        Reason.PUSHED_REQUEST_REQUIRED,
        Reason.POLICY_VIOLATION,
        Reason.SCOPE_EXCEEDED,
        Reason.KEY_NOT_FOUND,
        Reason.KEY_NOT_ANNOUNCED,
        Reason.KEY_STATE,
        Reason.CLIENT_EXISTS,
        Reason.CLIENT_CHANGED,
        Reason.POLICIES_CHANGED,
        Reason.EVENTS_EXPIRED,
        Reason.EVENT_STREAM_NOT_FOUND,
        Reason.TOO_MANY_EVENT_STREAMS,
        Reason.WEBHOOK_NOT_FOUND,
        Reason.WEBHOOK_CHANGED,
        Reason.STREAM_ENDED,
    ),
    "invalid_client": (Reason.CALLER_UNAUTHENTICATED, Reason.CLIENT_NOT_FOUND, Reason.CLIENT_DISABLED),
    "invalid_grant": (
        Reason.GRANT_INVALID,
        Reason.REFRESH_TOKEN_INVALID,
        Reason.REFRESH_TOKEN_EXPIRED,
        Reason.REFRESH_TOKEN_REUSED,
        Reason.REFRESH_RACE,
        Reason.RISK_REFUSED,
        Reason.SESSION_IDLE,
        Reason.SESSION_REVOKED,
        Reason.SESSION_NOT_FOUND,
        Reason.SESSION_NOT_ACTIVE,
        Reason.WRONG_CLIENT,
        Reason.WRONG_DEVICE,
        Reason.WRONG_KEY,
    ),
    "unauthorized_client": (Reason.PERMISSION_DENIED, Reason.GRANT_TYPE_NOT_ALLOWED),
    "unsupported_grant_type": (Reason.GRANT_TYPE_UNKNOWN,),
    "invalid_dpop_proof": (Reason.PROOF_INVALID,),
    "use_dpop_nonce": (Reason.PROOF_NONCE_REQUIRED,),
    "access_denied": (Reason.ACCESS_DENIED,),
    "login_required": (Reason.LOGIN_REQUIRED,),
    "consent_required": (Reason.CONSENT_REQUIRED,),
    "unsupported_response_type": (Reason.RESPONSE_TYPE_UNKNOWN,),
    "unmet_authentication_requirements": (Reason.AUTHENTICATION_INSUFFICIENT,),
    "authorization_pending": (Reason.AUTHORIZATION_PENDING,),
    "slow_down": (Reason.SLOW_DOWN,),
    "expired_token": (Reason.DEVICE_CODE_EXPIRED,),
    "temporarily_unavailable": (
        Reason.TOO_MANY_RETRIES,
        Reason.SHUTTING_DOWN,
        Reason.STORE_UNAVAILABLE,
        Reason.REPLICA_STALE,
        Reason.OVERLOADED,
        Reason.DEADLINE_EXCEEDED,
        Reason.SIGNING_UNAVAILABLE,
        Reason.KEYS_STALE,
        Reason.UNREACHABLE,
        Reason.FOREIGN_KEYS_UNAVAILABLE,
        Reason.CLIENT_DOCUMENT_UNAVAILABLE,
        Reason.UPSTREAM_UNAVAILABLE,
        Reason.RATE_LIMITED,
    ),
    "server_error": (Reason.INTERNAL,),
}
OAUTH_ERROR: Final[Mapping[Reason, str]] = MappingProxyType(
    {reason: code for code, reasons in _OAUTH_ERRORS.items() for reason in reasons}
)
"""The OAuth error code of each reason (RFC 6749, section 5.2)."""
_OAUTH_ERROR_OF_FIELD: Final = {
    "scopes": "invalid_scope",
    "scope": "invalid_scope",
    "audience": "invalid_target",
    "resource": "invalid_target",
}
"""The code of an `invalid_request` about one of these fields (RFC 6749, section 5.2; RFC 8707, section 2)."""
_OAUTH_ERROR_OF_BOUND: Final = {"scopes": "invalid_scope", "audiences": "invalid_target"}
"""The code of an `unauthorized_client` beyond one of these bounds of a right."""

_ERROR_OF_REASON: Final[Mapping[str, type[ServiceError]]] = {
    error.reason.value: error for error in ServiceError.__subclasses__()
}

# The error for a status without a known reason: from gRPC itself, from a proxy, or from a newer server.
_ERROR_OF_CODE: Final[Mapping[grpc.StatusCode, type[ServiceError]]] = {
    _Code.UNAUTHENTICATED: CallerUnauthenticatedError,
    _Code.PERMISSION_DENIED: PermissionDeniedError,
    _Code.RESOURCE_EXHAUSTED: OverloadedError,
    _Code.DEADLINE_EXCEEDED: DeadlineExceededError,
    _Code.UNAVAILABLE: UnreachableError,
    _Code.ABORTED: StreamEndedError,
    _Code.CANCELLED: ShuttingDownError,  # the caller's own cancellation never reaches this table
}


def oauth_error(error: ServiceError) -> tuple[str, int]:
    """Return the error code and the HTTP status of `error` at an OAuth endpoint (RFC 6749, section 5.2)."""
    code = OAUTH_ERROR[error.reason]
    if code in {"temporarily_unavailable", "server_error"}:
        return code, HTTP_STATUS[error.reason]
    if code == "invalid_client":
        return code, 401
    if code == "invalid_request":
        field = error.metadata.get("field", "")
        if isinstance(error, InvalidRequestError):
            fields = {violation.field.partition("[")[0] for violation in error.violations}
            field = fields.pop() if len(fields) == 1 else ""
        code = _OAUTH_ERROR_OF_FIELD.get(field, code)
    elif code == "unauthorized_client":
        code = _OAUTH_ERROR_OF_BOUND.get(error.metadata.get("bound", ""), code)
    elif code == "unmet_authentication_requirements" and "max_age" in error.metadata:
        code = (
            "insufficient_user_authentication"  # RFC 9470, section 3: a newer authentication meets the demand
        )
    return code, 400


_ERROR_OF_OAUTH: Final[Mapping[str, type[ServiceError]]] = {
    "invalid_client": CallerUnauthenticatedError,
    "unauthorized_client": PermissionDeniedError,
    "access_denied": PermissionDeniedError,
    "invalid_grant": GrantInvalidError,
    "unsupported_grant_type": GrantTypeUnknownError,
    "invalid_scope": ScopeExceededError,
    "invalid_dpop_proof": ProofInvalidError,
    "use_dpop_nonce": ProofNonceRequiredError,
    "server_error": InternalError,
    "temporarily_unavailable": UnreachableError,
}
"""The nearest error of a code without a known reason: of another authorization server, or of a newer one."""


def error_from_oauth(
    status: int, code: str, reason: str, message: str, retry_after: float | None
) -> ServiceError:
    """Return the error of a refused request at a token endpoint.

    `code` and `reason` are the members `error` and `reason` of the response, or empty: see `web.oauth.errors`. Without
    both the HTTP status decides.
    """
    known = _ERROR_OF_REASON.get(reason) or _ERROR_OF_OAUTH.get(code)
    if known is None:
        if status == 429:
            known = OverloadedError
        elif status >= 500:
            known = UnreachableError
        elif status == 401:
            known = CallerUnauthenticatedError
    if known is None or known is InvalidRequestError:
        return InvalidRequestError([FieldViolation("", message)])
    return known(message, metadata={"http_status": str(status)}, retry_after=retry_after)


def error_to_status(
    error: ServiceError, request_id: str = ""
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Return the code, the message and the trailing metadata of `error`. The details name the request, if it has an id."""
    code = GRPC_STATUS[error.reason]
    message = _cut(error.message, _MAX_MESSAGE)
    status = Status(code=code.value[0], message=message)
    metadata = {name: _cut(value, _MAX_DETAIL) for name, value in error.metadata.items()}
    status.details.add().Pack(ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata))
    if isinstance(error, InvalidRequestError):
        violations = [
            BadRequest.FieldViolation(
                field=_cut(violation.field, _MAX_DETAIL),
                description=_cut(violation.description, _MAX_DETAIL),
            )
            for violation in error.violations[:_MAX_VIOLATIONS]
        ]
        status.details.add().Pack(BadRequest(field_violations=violations))
    if error.retry_after is not None:
        delay = RetryInfo()
        delay.retry_delay.FromNanoseconds(max(0, round(error.retry_after * 1_000_000_000)))
        status.details.add().Pack(delay)
    if request_id:
        status.details.add().Pack(RequestInfo(request_id=request_id))
    trailers: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, status.SerializeToString()),)
    if "dpop_nonce" in error.metadata:
        trailers = (*trailers, (DPOP_NONCE_KEY, error.metadata["dpop_nonce"]))
    return code, message, trailers


def error_from_rpc(error: grpc.RpcError) -> ServiceError:
    """Return the `ServiceError` of a failed call of `grpc` or `grpc.aio`.

    An error without a known reason (from gRPC itself, a proxy, a newer server) becomes the error nearest to its
    status code, or `InternalError` if no error is near. Its metadata then has `grpc_code` and, if the server sent
    an unknown reason, `reason`.
    """
    call: Any = error
    code = call.code() if hasattr(call, "code") else None
    text = str(call.details() or "") if hasattr(call, "details") else ""
    info, violations, retry_after = _details(call)
    known = _ERROR_OF_REASON.get(info.reason) if info is not None else None
    if info is not None and known is not None:
        if known is InvalidRequestError:
            return InvalidRequestError(violations or [FieldViolation("", text)])
        return known(text, metadata=dict(info.metadata), retry_after=retry_after)
    if code is _Code.INVALID_ARGUMENT:
        return InvalidRequestError(violations or [FieldViolation("", text)])
    metadata = dict(info.metadata) if info is not None else {}
    metadata["grpc_code"] = code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"
    if info is not None:
        metadata["reason"] = info.reason
    nearest = _ERROR_OF_CODE.get(code, InternalError) if code is not None else InternalError
    return nearest(text, metadata=metadata, retry_after=retry_after)


def _details(call: Any) -> tuple[ErrorInfo | None, list[FieldViolation], float | None]:
    """Return the ErrorInfo of the token service, the field violations and the retry delay found in the trailers."""
    status = _status(call.trailing_metadata() if hasattr(call, "trailing_metadata") else None)
    found: ErrorInfo | None = None
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    for detail in status.details:
        try:
            if detail.Is(ErrorInfo.DESCRIPTOR):
                info = ErrorInfo()
                detail.Unpack(info)
                found = info if info.domain == DOMAIN else found
            elif detail.Is(BadRequest.DESCRIPTOR):
                request = BadRequest()
                detail.Unpack(request)
                violations = [FieldViolation(v.field, v.description) for v in request.field_violations]
            elif detail.Is(RetryInfo.DESCRIPTOR):
                retry = RetryInfo()
                detail.Unpack(retry)
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1_000_000_000
        except DecodeError:
            continue
    return found, violations, retry_after


def _status(trailers: Iterable[Any] | None) -> Status:
    for name, value in trailers or ():
        if name == DETAILS_KEY:
            try:
                return Status.FromString(value)
            except DecodeError:
                break
    return Status()


def _cut(text: str, limit: int) -> str:
    """Return `text` cut to at most `limit` bytes of UTF-8."""
    data = text.encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode("utf-8")
    return data[: limit - 3].decode("utf-8", "ignore") + "…"
