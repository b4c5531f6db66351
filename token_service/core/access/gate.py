"""The gate: the permission that each use case needs, on every edge."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.permissions import Permission


class UseCase(StrEnum):
    """An operation that a caller can request. A use case that is an RPC has its name."""

    ISSUE_TOKEN = "IssueToken"
    REFRESH_TOKEN = "RefreshToken"
    VALIDATE_TOKEN = "ValidateToken"
    BATCH_VALIDATE_TOKENS = "BatchValidateTokens"
    REVOKE_TOKEN = "RevokeToken"
    REVOKE_WIDELY = "RevokeToken of a key or of everything"
    STREAM_REVOCATIONS = "StreamRevocations"
    CONFIRM_REVOCATIONS = "ConfirmRevocations"
    GET_SESSION = "GetSession"
    LIST_SESSIONS = "ListSessions"
    EXTEND_SESSION = "ExtendSession"
    GET_KEY_SET = "GetKeySet"
    GET_HEALTH = "health and readiness"
    LIST_SIGNING_KEYS = "ListSigningKeys"
    PREPARE_SIGNING_KEY = "PrepareSigningKey"
    ACTIVATE_SIGNING_KEY = "ActivateSigningKey"
    RETIRE_SIGNING_KEY = "RetireSigningKey"
    REVOKE_SIGNING_KEY = "RevokeSigningKey"
    LIST_AUDIT_EVENTS = "ListAuditEvents"
    VERIFY_AUDIT_TRAIL = "VerifyAuditTrail"
    EXPLAIN_REVOCATION = "ExplainRevocation"


NEEDED: Final[Mapping[UseCase, Permission | None]] = MappingProxyType(
    {
        UseCase.ISSUE_TOKEN: Permission.ISSUE,
        UseCase.REFRESH_TOKEN: Permission.REFRESH,
        UseCase.VALIDATE_TOKEN: Permission.VALIDATE,
        UseCase.BATCH_VALIDATE_TOKENS: Permission.VALIDATE,
        UseCase.REVOKE_TOKEN: Permission.REVOKE,
        UseCase.REVOKE_WIDELY: Permission.ADMIN,
        UseCase.STREAM_REVOCATIONS: Permission.SUBSCRIBE,
        UseCase.CONFIRM_REVOCATIONS: Permission.SUBSCRIBE,
        UseCase.GET_SESSION: Permission.ADMIN,
        UseCase.LIST_SESSIONS: Permission.ADMIN,
        UseCase.EXTEND_SESSION: Permission.REFRESH,
        UseCase.GET_KEY_SET: None,
        UseCase.GET_HEALTH: None,
        UseCase.LIST_SIGNING_KEYS: Permission.ADMIN,
        UseCase.PREPARE_SIGNING_KEY: Permission.ADMIN,
        UseCase.ACTIVATE_SIGNING_KEY: Permission.ADMIN,
        UseCase.RETIRE_SIGNING_KEY: Permission.ADMIN,
        UseCase.REVOKE_SIGNING_KEY: Permission.ADMIN,
        UseCase.LIST_AUDIT_EVENTS: Permission.ADMIN,
        UseCase.VERIFY_AUDIT_TRAIL: Permission.ADMIN,
        UseCase.EXPLAIN_REVOCATION: Permission.ADMIN,
    }
)
"""The needed permission; None: open to unidentified callers."""


def admit(caller: Caller, use_case: UseCase) -> None:
    """Raise `PermissionDeniedError` unless the caller has the permission that the use case needs."""
    permission = NEEDED[use_case]
    if permission is not None:
        caller.require(permission)
