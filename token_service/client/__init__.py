"""The thin client: validates tokens locally, follows the revocations, renews tokens.

    async with TokenValidator(
        ValidatorConfig(issuers=[ServiceIssuer(issuer="https://tokens.example", target="dns:///tokens:50051")], audience="api")
    ) as validator:
        claims = await validator.validate(token, required_scopes=["read"])

Names are imported from their modules when they are first used, so that a program pays for what it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from token_service.client._internal.call_credentials import TokenCallCredentials
    from token_service.client._internal.credentials import CredentialFiles, TlsCredentials
    from token_service.client._internal.status import ValidatorStatus
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
    from token_service.client.renewal import (
        MemoryTokenStore,
        RenewalPolicy,
        SyncTokenSource,
        Tokens,
        TokenSource,
        TokenStore,
    )
    from token_service.client.sync_validator import SyncTokenValidator
    from token_service.client.validator import TokenValidator
    from token_service.tokens.claims import VerifiedClaims

_MODULE_OF = {
    "AioAuthInterceptor": "client.interceptors",
    "AuthInterceptor": "client.interceptors",
    "AuthRules": "client.interceptors",
    "Backoff": "client.config",
    "BearerAuthMiddleware": "client.asgi",
    "CredentialFiles": "client._internal.credentials",
    "ForeignIssuer": "client.config",
    "Freshness": "client.config",
    "MemoryTokenStore": "client.renewal",
    "RenewalPolicy": "client.renewal",
    "ServiceIssuer": "client.config",
    "SyncTokenSource": "client.renewal",
    "SyncTokenValidator": "client.sync_validator",
    "TlsCredentials": "client._internal.credentials",
    "TokenAuth": "client.httpx_auth",
    "TokenCallCredentials": "client._internal.call_credentials",
    "TokenSource": "client.renewal",
    "TokenStore": "client.renewal",
    "TokenValidator": "client.validator",
    "Tokens": "client.renewal",
    "ValidatorConfig": "client.config",
    "ValidatorStatus": "client._internal.status",
    "VerifiedClaims": "tokens.claims",
    "WarmStart": "client.config",
    "WhenStale": "client.config",
    "current_claims": "client.interceptors",
}

__all__ = [
    "AioAuthInterceptor",
    "AuthInterceptor",
    "AuthRules",
    "Backoff",
    "BearerAuthMiddleware",
    "CredentialFiles",
    "ForeignIssuer",
    "Freshness",
    "MemoryTokenStore",
    "RenewalPolicy",
    "ServiceIssuer",
    "SyncTokenSource",
    "SyncTokenValidator",
    "TlsCredentials",
    "TokenAuth",
    "TokenCallCredentials",
    "TokenSource",
    "TokenStore",
    "TokenValidator",
    "Tokens",
    "ValidatorConfig",
    "ValidatorStatus",
    "VerifiedClaims",
    "WarmStart",
    "WhenStale",
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
