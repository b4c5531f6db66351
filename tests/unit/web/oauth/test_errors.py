"""Error responses: the code and the status of every reason, and a body and headers as RFC 6749 wants them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from starlette.requests import Request

from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.errors import (
    CallerUnauthenticatedError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    PermissionDeniedError,
    PolicyViolationError,
    RateLimitedError,
    Reason,
    ScopeExceededError,
    ServiceError,
    StoreUnavailableError,
)
from token_service.web.oauth.errors import describe, oauth_refusal
from token_service.wire import oauth_error

EXPECTED = {
    "invalid_request": (
        400,
        (
            "INVALID_REQUEST SUBJECT_TOKEN_INVALID RESERVED_CLAIM CUSTOM_CLAIMS_TOO_LARGE REQUEST_ID_REUSED BINDING_REQUIRED PUSHED_REQUEST_REQUIRED SCOPE_EXCEEDED "
            "KEY_NOT_FOUND POLICY_VIOLATION KEY_NOT_ANNOUNCED KEY_STATE CLIENT_EXISTS CLIENT_CHANGED POLICIES_CHANGED "
            "CUSTOM_CLAIM_NOT_ALLOWED STREAM_ENDED EVENTS_EXPIRED EVENT_STREAM_NOT_FOUND TOO_MANY_EVENT_STREAMS "
            "WEBHOOK_NOT_FOUND WEBHOOK_CHANGED"
        ),
    ),
    "invalid_client": (401, "CALLER_UNAUTHENTICATED CLIENT_NOT_FOUND CLIENT_DISABLED"),
    "invalid_grant": (
        400,
        (
            "GRANT_INVALID REFRESH_TOKEN_INVALID REFRESH_TOKEN_EXPIRED SESSION_IDLE SESSION_REVOKED "
            "REFRESH_TOKEN_REUSED REFRESH_RACE RISK_REFUSED WRONG_CLIENT WRONG_DEVICE WRONG_KEY SESSION_NOT_FOUND SESSION_NOT_ACTIVE"
        ),
    ),
    "unauthorized_client": (400, "PERMISSION_DENIED GRANT_TYPE_NOT_ALLOWED"),
    "unsupported_grant_type": (400, "GRANT_TYPE_UNKNOWN"),
    "invalid_dpop_proof": (400, "PROOF_INVALID"),
    "use_dpop_nonce": (400, "PROOF_NONCE_REQUIRED"),
    "access_denied": (400, "ACCESS_DENIED"),
    "login_required": (400, "LOGIN_REQUIRED"),
    "consent_required": (400, "CONSENT_REQUIRED"),
    "unsupported_response_type": (400, "RESPONSE_TYPE_UNKNOWN"),
    "unmet_authentication_requirements": (400, "AUTHENTICATION_INSUFFICIENT"),
    "authorization_pending": (400, "AUTHORIZATION_PENDING"),
    "slow_down": (400, "SLOW_DOWN"),
    "expired_token": (400, "DEVICE_CODE_EXPIRED"),
}
UNAVAILABLE = {
    503: "SHUTTING_DOWN STORE_UNAVAILABLE REPLICA_STALE SIGNING_UNAVAILABLE KEYS_STALE UNREACHABLE "
    "FOREIGN_KEYS_UNAVAILABLE CLIENT_DOCUMENT_UNAVAILABLE UPSTREAM_UNAVAILABLE",
    429: "TOO_MANY_RETRIES OVERLOADED RATE_LIMITED",
    504: "DEADLINE_EXCEEDED",
}
TABLE = {
    **{name: (code, status) for code, (status, names) in EXPECTED.items() for name in names.split()},
    **{
        name: ("temporarily_unavailable", status)
        for status, names in UNAVAILABLE.items()
        for name in names.split()
    },
    "INTERNAL": ("server_error", 500),
}


def error_of(reason: Reason) -> ServiceError:
    kind = next(each for each in ServiceError.__subclasses__() if each.reason is reason)
    return InvalidRequestError.of("field", "is wrong") if kind is InvalidRequestError else kind()


def request_with(authorization: str = "") -> Request:
    headers = [(b"authorization", authorization.encode())] if authorization else []
    return Request({"type": "http", "method": "POST", "path": "/token", "headers": headers})


def body_of(error: ServiceError) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(oauth_refusal(error, request_with()).body))
    return body


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_an_oauth_error(reason: Reason) -> None:
    error = error_of(reason)
    assert oauth_error(error) == TABLE[reason.value]
    answer = oauth_refusal(error, request_with())
    code, status = TABLE[reason.value]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    assert body_of(error) == {"error": code, "error_description": error.message, "reason": reason.value}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyViolationError("x", metadata={"field": "scopes"}), "invalid_scope"),
        (PolicyViolationError("x", metadata={"field": "audience"}), "invalid_target"),
        (PolicyViolationError("x", metadata={"field": "custom_claims"}), "invalid_request"),
        (ScopeExceededError("x", metadata={"field": "scopes"}), "invalid_scope"),
        (ScopeExceededError("x", metadata={"field": "audience"}), "invalid_target"),
        (InvalidRequestError.of("scopes[3]", "x"), "invalid_scope"),
        (InvalidRequestError.of("audience[0]", "x"), "invalid_target"),
        (
            InvalidRequestError([FieldViolation("scopes[0]", "x"), FieldViolation("scopes[1]", "x")]),
            "invalid_scope",
        ),
        (
            InvalidRequestError([FieldViolation("scopes[0]", "x"), FieldViolation("device_id", "x")]),
            "invalid_request",
        ),
    ],
)
def test_field_in_error_selects_the_code(error: ServiceError, code: str) -> None:
    assert oauth_error(error) == (code, 400)


@pytest.mark.parametrize(
    ("authorization", "challenge"),
    [
        ("", 'Basic realm="token-service", charset="UTF-8"'),
        ("Basic xyz", 'Basic realm="token-service", charset="UTF-8"'),
        ("bearer xyz", 'Bearer realm="token-service", error="invalid_token"'),
        ("Negotiate xyz", 'Basic realm="token-service", charset="UTF-8"'),
    ],
)
def test_challenge_has_the_scheme_of_the_request(authorization: str, challenge: str) -> None:
    answer = oauth_refusal(CallerUnauthenticatedError(), request_with(authorization))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, challenge)
    assert (
        "www-authenticate" not in oauth_refusal(StoreUnavailableError(), request_with(authorization)).headers
    )


def test_bearer_without_the_permission_is_refused_by_rfc_6750() -> None:
    answer = oauth_refusal(PermissionDeniedError(), request_with("Bearer xyz"))
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == 'Bearer realm="token-service", error="insufficient_scope"'
    assert json.loads(bytes(answer.body))["error"] == "insufficient_scope"
    unauthenticated = oauth_refusal(CallerUnauthenticatedError(), request_with("Bearer xyz"))
    assert json.loads(bytes(unauthenticated.body))["error"] == "invalid_token"


@pytest.mark.parametrize(("wait", "shown"), [(0.01, "1"), (17.0, "17"), (17.2, "18")])
def test_wait_is_rounded_up(wait: float, shown: str) -> None:
    assert oauth_refusal(RateLimitedError(retry_after=wait), request_with()).headers["retry-after"] == shown


@pytest.mark.parametrize(
    ("error", "after"),
    [(StoreUnavailableError(), "1"), (StoreUnavailableError(retry_after=3.0), "3"), (InternalError(), None)],
)
def test_unavailable_service_names_a_time_to_retry(error: ServiceError, after: str | None) -> None:
    assert oauth_refusal(error, request_with()).headers.get("retry-after") == after


def test_unexpected_failure_shows_its_id() -> None:
    body = body_of(InternalError(metadata={"error_id": "e-1", "other": "secret"}))
    assert body == {
        "error": "server_error",
        "error_description": "internal error",
        "reason": "INTERNAL",
        "error_id": "e-1",
    }


def test_description_has_only_the_characters_of_rfc_6749() -> None:
    described = describe('a "b" \\c\r\n\0é\u2028\x7f ~!' + "x" * 1000)
    assert described.startswith("a 'b' /c?????? ~!x")
    assert len(described) == 512
    assert re.fullmatch(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+", described)


@pytest.mark.parametrize(
    "parameters",
    [
        {"client_id": "app", "client_secret": "s3cret-value"},
        {"client_id": "app", "client_secret": "s3cret-value" * 100},
        {"client_id": "app", "client_secret": "s3cret-value", "client_assertion": "s3cret-value"},
        {"client_assertion_type": "s3cret-value", "client_assertion": "s3cret-value"},
        {"client_id": "public", "grant_type": "refresh_token", "refresh_token": "tsrt_s3cret-value"},
        {"client_id": "public", "grant_type": "refresh_token", "refresh_token": "s3cret-value" * 200},
        {"client_id": "public", "grant_type": "refresh_token", "refresh_token": "s3cret-value\0"},
        {"client_id": "public", "grant_type": "s3cret-value"},
        {"client_id": "public", "client_secret": ["s3cret-value", "s3cret-value"]},
    ],
)
async def test_responses_show_no_secret_of_the_request(app: OAuthApp, parameters: dict[str, Any]) -> None:
    await app.register("app")
    await app.register_public("public")
    answer = await app.post("/token", parameters)
    assert answer.status_code in {400, 401}
    assert "s3cret-value" not in answer.text
    assert "s3cret-value" not in repr(answer.headers)
    assert "s3cret-value" not in repr(app.node.audit.events)
