"""Client library: validates tokens locally, follows revocations and renews tokens.

    async with TokenValidator(
        ValidatorConfig(issuers=[ServiceIssuer(issuer="https://tokens.example", target="dns:///tokens:50051")], audience="api")
    ) as validator:
        claims = await validator.validate(token, required_scopes=["read"])

Each name is imported from its module on first use, so a program loads only the modules it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from token_service.client._internal.call_credentials import TokenCallCredentials
    from token_service.client._internal.clock import ValidatorClock
    from token_service.client._internal.counters import Counters
    from token_service.client._internal.credentials import CredentialFiles, TlsCredentials
    from token_service.client._internal.explanation import Check, Explanation
    from token_service.client._internal.renewal_state import RenewalPolicy
    from token_service.client._internal.status import ValidatorStatus
    from token_service.client._internal.token_store import MemoryTokenStore, Tokens, TokenStore
    from token_service.client.asgi import BearerAuthMiddleware
    from token_service.client.config import (
        Backoff,
        ForeignIssuer,
        Freshness,
        ServiceIssuer,
        ValidatorConfig,
        WarmStart,
        WhenStale,
    )
    from token_service.client.httpx_auth import TokenAuth
    from token_service.client.interceptors import (
        AioAuthInterceptor,
        AuthInterceptor,
        AuthRules,
        current_claims,
    )
    from token_service.client.sync_token_source import SyncTokenSource
    from token_service.client.sync_validator import SyncTokenValidator
    from token_service.client.token_source import TokenSource
    from token_service.client.validator import TokenValidator
    from token_service.errors import (
        BindingRequiredError,
        CallerUnauthenticatedError,
        ClientChangedError,
        ClientDisabledError,
        ClientDocumentUnavailableError,
        ClientExistsError,
        ClientNotFoundError,
        ConfigurationError,
        CustomClaimNotAllowedError,
        CustomClaimsTooLargeError,
        DeadlineExceededError,
        FieldViolation,
        ForeignKeysUnavailableError,
        GrantInvalidError,
        GrantTypeNotAllowedError,
        GrantTypeUnknownError,
        InternalError,
        InvalidReason,
        InvalidRequestError,
        InvalidTokenError,
        KeyNotAnnouncedError,
        KeyNotFoundError,
        KeysStaleError,
        KeyStateError,
        OverloadedError,
        PermissionDeniedError,
        PolicyViolationError,
        RateLimitedError,
        Reason,
        RefreshTokenExpiredError,
        RefreshTokenInvalidError,
        RefreshTokenReusedError,
        ReplicaStaleError,
        RequestIdReusedError,
        ReservedClaimError,
        ScopeExceededError,
        ServiceError,
        SessionIdleError,
        SessionNotActiveError,
        SessionNotFoundError,
        SessionRevokedError,
        ShuttingDownError,
        SigningUnavailableError,
        StoreUnavailableError,
        StreamEndedError,
        TokenServiceError,
        TooManyRetriesError,
        UnreachableError,
        ValidatorForkedError,
        WrongClientError,
        WrongDeviceError,
    )
    from token_service.tokens.algorithms import Algorithm
    from token_service.tokens.claims import AuthContext, Confirmation, TokenKind, VerifiedClaims
    from token_service.tokens.secret import Secret

_MODULE_OF = {
    "AioAuthInterceptor": "client.interceptors",
    "Algorithm": "tokens.algorithms",
    "AuthContext": "tokens.claims",
    "AuthInterceptor": "client.interceptors",
    "AuthRules": "client.interceptors",
    "Backoff": "client.config",
    "BearerAuthMiddleware": "client.asgi",
    "BindingRequiredError": "errors",
    "CallerUnauthenticatedError": "errors",
    "Check": "client._internal.explanation",
    "ClientChangedError": "errors",
    "ClientDisabledError": "errors",
    "ClientDocumentUnavailableError": "errors",
    "ClientExistsError": "errors",
    "ClientNotFoundError": "errors",
    "ConfigurationError": "errors",
    "Confirmation": "tokens.claims",
    "Counters": "client._internal.counters",
    "CredentialFiles": "client._internal.credentials",
    "CustomClaimNotAllowedError": "errors",
    "CustomClaimsTooLargeError": "errors",
    "DeadlineExceededError": "errors",
    "Explanation": "client._internal.explanation",
    "FieldViolation": "errors",
    "ForeignIssuer": "client.config",
    "ForeignKeysUnavailableError": "errors",
    "Freshness": "client.config",
    "InternalError": "errors",
    "InvalidReason": "errors",
    "InvalidRequestError": "errors",
    "InvalidTokenError": "errors",
    "KeyNotAnnouncedError": "errors",
    "KeyNotFoundError": "errors",
    "KeyStateError": "errors",
    "KeysStaleError": "errors",
    "MemoryTokenStore": "client._internal.token_store",
    "OverloadedError": "errors",
    "PermissionDeniedError": "errors",
    "PolicyViolationError": "errors",
    "GrantInvalidError": "errors",
    "GrantTypeNotAllowedError": "errors",
    "GrantTypeUnknownError": "errors",
    "RateLimitedError": "errors",
    "Reason": "errors",
    "RefreshTokenExpiredError": "errors",
    "RefreshTokenInvalidError": "errors",
    "RefreshTokenReusedError": "errors",
    "RenewalPolicy": "client._internal.renewal_state",
    "ReplicaStaleError": "errors",
    "RequestIdReusedError": "errors",
    "ReservedClaimError": "errors",
    "ScopeExceededError": "errors",
    "Secret": "tokens.secret",
    "ServiceError": "errors",
    "ServiceIssuer": "client.config",
    "SessionIdleError": "errors",
    "SessionNotActiveError": "errors",
    "SessionNotFoundError": "errors",
    "SessionRevokedError": "errors",
    "ShuttingDownError": "errors",
    "SigningUnavailableError": "errors",
    "StoreUnavailableError": "errors",
    "StreamEndedError": "errors",
    "SyncTokenSource": "client.sync_token_source",
    "SyncTokenValidator": "client.sync_validator",
    "TlsCredentials": "client._internal.credentials",
    "TokenAuth": "client.httpx_auth",
    "TokenCallCredentials": "client._internal.call_credentials",
    "TokenKind": "tokens.claims",
    "TokenServiceError": "errors",
    "TokenSource": "client.token_source",
    "TokenStore": "client._internal.token_store",
    "TokenValidator": "client.validator",
    "Tokens": "client._internal.token_store",
    "TooManyRetriesError": "errors",
    "UnreachableError": "errors",
    "ValidatorClock": "client._internal.clock",
    "ValidatorConfig": "client.config",
    "ValidatorForkedError": "errors",
    "ValidatorStatus": "client._internal.status",
    "VerifiedClaims": "tokens.claims",
    "WarmStart": "client.config",
    "WhenStale": "client.config",
    "WrongClientError": "errors",
    "WrongDeviceError": "errors",
    "current_claims": "client.interceptors",
}

__all__ = [
    "AioAuthInterceptor",
    "Algorithm",
    "AuthContext",
    "AuthInterceptor",
    "AuthRules",
    "Backoff",
    "BearerAuthMiddleware",
    "BindingRequiredError",
    "CallerUnauthenticatedError",
    "Check",
    "ClientChangedError",
    "ClientDisabledError",
    "ClientDocumentUnavailableError",
    "ClientExistsError",
    "ClientNotFoundError",
    "ConfigurationError",
    "Confirmation",
    "Counters",
    "CredentialFiles",
    "CustomClaimNotAllowedError",
    "CustomClaimsTooLargeError",
    "DeadlineExceededError",
    "Explanation",
    "FieldViolation",
    "ForeignIssuer",
    "ForeignKeysUnavailableError",
    "Freshness",
    "GrantInvalidError",
    "GrantTypeNotAllowedError",
    "GrantTypeUnknownError",
    "InternalError",
    "InvalidReason",
    "InvalidRequestError",
    "InvalidTokenError",
    "KeyNotAnnouncedError",
    "KeyNotFoundError",
    "KeyStateError",
    "KeysStaleError",
    "MemoryTokenStore",
    "OverloadedError",
    "PermissionDeniedError",
    "PolicyViolationError",
    "RateLimitedError",
    "Reason",
    "RefreshTokenExpiredError",
    "RefreshTokenInvalidError",
    "RefreshTokenReusedError",
    "RenewalPolicy",
    "ReplicaStaleError",
    "RequestIdReusedError",
    "ReservedClaimError",
    "ScopeExceededError",
    "Secret",
    "ServiceError",
    "ServiceIssuer",
    "SessionIdleError",
    "SessionNotActiveError",
    "SessionNotFoundError",
    "SessionRevokedError",
    "ShuttingDownError",
    "SigningUnavailableError",
    "StoreUnavailableError",
    "StreamEndedError",
    "SyncTokenSource",
    "SyncTokenValidator",
    "TlsCredentials",
    "TokenAuth",
    "TokenCallCredentials",
    "TokenKind",
    "TokenServiceError",
    "TokenSource",
    "TokenStore",
    "TokenValidator",
    "Tokens",
    "TooManyRetriesError",
    "UnreachableError",
    "ValidatorClock",
    "ValidatorConfig",
    "ValidatorForkedError",
    "ValidatorStatus",
    "VerifiedClaims",
    "WarmStart",
    "WhenStale",
    "WrongClientError",
    "WrongDeviceError",
    "current_claims",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"token_service.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
