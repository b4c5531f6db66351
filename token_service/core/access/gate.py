"""The gate: the right that each use case needs, on every edge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from token_service.core.access.caller import Caller, Proof
from token_service.core.clients.client import Client
from token_service.core.policies.rights import May, Permission
from token_service.errors import (
    CallerUnauthenticatedError,
    GrantTypeNotAllowedError,
    PermissionDeniedError,
    ScopeExceededError,
)
from token_service.tokens.claims import TokenKind


class UseCase(StrEnum):
    """An operation that a caller can request. A use case that is an RPC has its name."""

    ISSUE_TOKEN = "IssueToken"
    REFRESH_TOKEN = "RefreshToken"
    VALIDATE_TOKEN = "ValidateToken"
    BATCH_VALIDATE_TOKENS = "BatchValidateTokens"
    REVOKE_TOKEN = "RevokeToken"
    REVOKE_WIDELY = "RevokeToken of a key or of everything, RevokeSessions of all owners"
    CREATE_AUTHORIZATION_GRANT = "CreateAuthorizationGrant"
    GET_LOGIN_REQUEST = "GetLoginRequest"
    ACCEPT_LOGIN_REQUEST = "AcceptLoginRequest"
    REJECT_LOGIN_REQUEST = "RejectLoginRequest"
    STREAM_REVOCATIONS = "StreamRevocations"
    CONFIRM_REVOCATIONS = "ConfirmRevocations"
    GET_SESSION = "GetSession"
    LIST_SESSIONS = "ListSessions"
    EXTEND_SESSION = "ExtendSession"
    UPDATE_SESSION = "UpdateSession"
    COUNT_SESSIONS = "CountSessions"
    REVOKE_SESSIONS = "RevokeSessions"
    CREATE_PERSONAL_ACCESS_TOKEN = "CreatePersonalAccessToken"
    LIST_PERSONAL_ACCESS_TOKENS = "ListPersonalAccessTokens"
    REVOKE_PERSONAL_ACCESS_TOKEN = "RevokePersonalAccessToken"
    GET_KEY_SET = "GetKeySet"
    GET_DISCOVERY = "discovery"
    GET_HEALTH = "health and readiness"
    GET_METRICS = "metrics"
    LIST_SIGNING_KEYS = "ListSigningKeys"
    PREPARE_SIGNING_KEY = "PrepareSigningKey"
    ACTIVATE_SIGNING_KEY = "ActivateSigningKey"
    RETIRE_SIGNING_KEY = "RetireSigningKey"
    REVOKE_SIGNING_KEY = "RevokeSigningKey"
    CREATE_CLIENT = "CreateClient"
    GET_CLIENT = "GetClient"
    LIST_CLIENTS = "ListClients"
    UPDATE_CLIENT = "UpdateClient"
    ROTATE_CLIENT_SECRET = "RotateClientSecret"
    DISABLE_CLIENT = "DisableClient"
    ENABLE_CLIENT = "EnableClient"
    DELETE_CLIENT = "DeleteClient"
    LIST_AUDIT_EVENTS = "ListAuditEvents"
    VERIFY_AUDIT_TRAIL = "VerifyAuditTrail"
    EXPLAIN_REVOCATION = "ExplainRevocation"
    STREAM_EVENTS = "StreamEvents"
    CREATE_WEBHOOK = "CreateWebhook"
    GET_WEBHOOK = "GetWebhook"
    LIST_WEBHOOKS = "ListWebhooks"
    UPDATE_WEBHOOK = "UpdateWebhook"
    ROTATE_WEBHOOK_SECRET = "RotateWebhookSecret"
    DELETE_WEBHOOK = "DeleteWebhook"
    LIST_DEAD_LETTERS = "ListDeadLetters"
    REDELIVER_DEAD_LETTERS = "RedeliverDeadLetters"
    REPLAY_WEBHOOK = "ReplayWebhook"
    TEST_WEBHOOK = "TestWebhook"
    GET_EFFECTIVE_CONFIGURATION = "GetEffectiveConfiguration"
    EXPLAIN_ACCESS = "ExplainAccess"
    GET_POLICIES = "GetPolicies"
    CHECK_POLICIES = "CheckPolicies"
    SET_POLICIES = "SetPolicies"
    RESET_POLICIES = "ResetPolicies"
    GET_OVERVIEW = "GetOverview"
    LIST_NODES = "ListNodes"
    LIST_SUBSCRIBERS = "ListSubscribers"
    LIST_REVOCATIONS = "ListRevocations"
    PREVIEW_REVOCATION = "PreviewRevocation"
    PREVIEW_KEY_RETIREMENT = "PreviewKeyRetirement"
    PREVIEW_AUTOMATIC_REVOCATION = "PreviewAutomaticRevocation"
    EXPORT_SUBJECT = "ExportSubject"
    ERASE_SUBJECT = "EraseSubject"


NEEDED: Final[Mapping[UseCase, Permission | None]] = MappingProxyType(
    {
        UseCase.ISSUE_TOKEN: Permission.ISSUE,
        UseCase.REFRESH_TOKEN: Permission.REFRESH,
        UseCase.VALIDATE_TOKEN: Permission.VALIDATE,
        UseCase.BATCH_VALIDATE_TOKENS: Permission.VALIDATE,
        UseCase.REVOKE_TOKEN: Permission.REVOKE,
        UseCase.REVOKE_WIDELY: Permission.ADMIN_WRITE,
        UseCase.CREATE_AUTHORIZATION_GRANT: Permission.ISSUE,
        UseCase.GET_LOGIN_REQUEST: Permission.ISSUE,
        UseCase.ACCEPT_LOGIN_REQUEST: Permission.ISSUE,
        UseCase.REJECT_LOGIN_REQUEST: Permission.ISSUE,
        UseCase.STREAM_REVOCATIONS: Permission.SUBSCRIBE,
        UseCase.CONFIRM_REVOCATIONS: Permission.SUBSCRIBE,
        UseCase.GET_SESSION: Permission.ADMIN_READ,
        UseCase.LIST_SESSIONS: Permission.ADMIN_READ,
        UseCase.EXTEND_SESSION: Permission.REFRESH,
        UseCase.UPDATE_SESSION: Permission.ISSUE,
        UseCase.COUNT_SESSIONS: Permission.ADMIN_READ,
        UseCase.REVOKE_SESSIONS: Permission.REVOKE,
        UseCase.CREATE_PERSONAL_ACCESS_TOKEN: Permission.ISSUE,
        UseCase.LIST_PERSONAL_ACCESS_TOKENS: Permission.ADMIN_READ,
        UseCase.REVOKE_PERSONAL_ACCESS_TOKEN: Permission.REVOKE,
        UseCase.GET_KEY_SET: None,
        UseCase.GET_DISCOVERY: None,
        UseCase.GET_HEALTH: None,
        UseCase.GET_METRICS: None,
        UseCase.LIST_SIGNING_KEYS: Permission.ADMIN_READ,
        UseCase.PREPARE_SIGNING_KEY: Permission.ADMIN_WRITE,
        UseCase.ACTIVATE_SIGNING_KEY: Permission.ADMIN_WRITE,
        UseCase.RETIRE_SIGNING_KEY: Permission.ADMIN_WRITE,
        UseCase.REVOKE_SIGNING_KEY: Permission.ADMIN_WRITE,
        UseCase.CREATE_CLIENT: Permission.ADMIN_WRITE,
        UseCase.GET_CLIENT: Permission.ADMIN_READ,
        UseCase.LIST_CLIENTS: Permission.ADMIN_READ,
        UseCase.UPDATE_CLIENT: Permission.ADMIN_WRITE,
        UseCase.ROTATE_CLIENT_SECRET: Permission.ADMIN_WRITE,
        UseCase.DISABLE_CLIENT: Permission.ADMIN_WRITE,
        UseCase.ENABLE_CLIENT: Permission.ADMIN_WRITE,
        UseCase.DELETE_CLIENT: Permission.ADMIN_WRITE,
        UseCase.LIST_AUDIT_EVENTS: Permission.ADMIN_READ,
        UseCase.VERIFY_AUDIT_TRAIL: Permission.ADMIN_READ,
        UseCase.EXPLAIN_REVOCATION: Permission.ADMIN_READ,
        UseCase.STREAM_EVENTS: Permission.ADMIN_READ,
        UseCase.CREATE_WEBHOOK: Permission.ADMIN_WRITE,
        UseCase.GET_WEBHOOK: Permission.ADMIN_READ,
        UseCase.LIST_WEBHOOKS: Permission.ADMIN_READ,
        UseCase.UPDATE_WEBHOOK: Permission.ADMIN_WRITE,
        UseCase.ROTATE_WEBHOOK_SECRET: Permission.ADMIN_WRITE,
        UseCase.DELETE_WEBHOOK: Permission.ADMIN_WRITE,
        UseCase.LIST_DEAD_LETTERS: Permission.ADMIN_READ,
        UseCase.REDELIVER_DEAD_LETTERS: Permission.ADMIN_WRITE,
        UseCase.REPLAY_WEBHOOK: Permission.ADMIN_WRITE,
        UseCase.TEST_WEBHOOK: Permission.ADMIN_WRITE,
        UseCase.GET_EFFECTIVE_CONFIGURATION: Permission.ADMIN_READ,
        UseCase.EXPLAIN_ACCESS: Permission.ADMIN_READ,
        UseCase.GET_POLICIES: Permission.ADMIN_READ,
        UseCase.CHECK_POLICIES: Permission.ADMIN_READ,
        UseCase.SET_POLICIES: Permission.ADMIN_WRITE,
        UseCase.RESET_POLICIES: Permission.ADMIN_WRITE,
        UseCase.GET_OVERVIEW: Permission.ADMIN_READ,
        UseCase.LIST_NODES: Permission.ADMIN_READ,
        UseCase.LIST_SUBSCRIBERS: Permission.ADMIN_READ,
        UseCase.LIST_REVOCATIONS: Permission.ADMIN_READ,
        UseCase.PREVIEW_REVOCATION: Permission.ADMIN_READ,
        UseCase.PREVIEW_KEY_RETIREMENT: Permission.ADMIN_READ,
        UseCase.PREVIEW_AUTOMATIC_REVOCATION: Permission.ADMIN_READ,
        UseCase.EXPORT_SUBJECT: Permission.ADMIN_WRITE,
        UseCase.ERASE_SUBJECT: Permission.ADMIN_WRITE,
    }
)
"""The needed permission; None: open to unidentified callers."""


_OPERATOR_SCOPES: Final = frozenset(permission.value for permission in Permission)
"""The scopes with which a login to the console gives permissions."""
_IMPERSONATION: Final = frozenset({May.IMPERSONATE})


def admit(caller: Caller, use_case: UseCase) -> None:
    """Raise `PermissionDeniedError` unless the caller has the permission that the use case needs."""
    permission = NEEDED[use_case]
    if permission is not None:
        caller.require(permission)


def admit_client(caller: Caller, use_case: UseCase, client_id: str) -> None:
    """Raise `PermissionDeniedError` unless the caller has the needed permission for a client."""
    permission = NEEDED[use_case]
    assert permission is not None
    caller.require(permission)
    if not caller.rights.cover_client(permission, client_id):
        raise _outside(permission, "clients", client_id)


def admit_issue(
    caller: Caller,
    *,
    subject: str,
    client_id: str,
    audience: Sequence[str],
    scopes: Sequence[str],
    kinds: Collection[TokenKind],
    uses: frozenset[May] = frozenset(),
    issuer: str = "",
) -> None:
    """Raise `PermissionDeniedError` unless one right of the caller allows to issue exactly these tokens.

    A subject other than the client itself needs `May.OTHER_SUBJECTS`. `issuer`: this service, if the tokens may become a
    login to the console; empty: they can't.

    A login with a scope that is the name of a permission makes an operator of its subject, or of its groups. Without
    the rule below, the permission `issue` would give every permission.
    """
    caller.require(Permission.ISSUE)
    rights = caller.rights
    if issuer in audience and Permission.ADMIN_WRITE not in caller.permissions:
        scope = next((scope for scope in scopes if scope in _OPERATOR_SCOPES), None)
        if scope is not None:
            rights = rights.naming(client_id)
            if Permission.ISSUE not in rights.permissions:
                raise PermissionDeniedError(
                    f"tokens of client {client_id!r} for this service with the scope {scope!r} are those of an operator; "
                    "only a right to issue that names this client in its bound clients, without *, and callers with the "
                    "permission admin.write may make them",
                    metadata={"permission": Permission.ISSUE.value, "bound": "clients"},
                )
    if rights.issue_anything:
        return
    crossed = rights.problem_of(
        Permission.ISSUE,
        client_id=client_id,
        audience=audience,
        scopes=scopes,
        token_types=[kind.name.lower() for kind in kinds],
        uses=uses if subject == client_id else uses | {May.OTHER_SUBJECTS},
    )
    if crossed is not None:
        raise _outside(Permission.ISSUE, *crossed)


def admit_token_list(caller: Caller, client_id: str) -> None:
    """Raise `PermissionDeniedError` unless the caller may list the personal access tokens of a client.

    A caller that may issue for the client may, so that a page where people manage their tokens needs no `admin.read`.
    Without a client, which is the list of all clients, only a caller with `admin.read` may.
    """
    if not client_id or not caller.rights.cover_client(Permission.ISSUE, client_id):
        admit(caller, UseCase.LIST_PERSONAL_ACCESS_TOKENS)


def admit_exchange(
    caller: Caller,
    *,
    owner: str,
    held_audience: Collection[str],
    held_scopes: Collection[str],
    audience: Sequence[str],
    scopes: Sequence[str],
    kind: TokenKind,
) -> bool:
    """Raise unless the caller may exchange a token of the client `owner` for one with this audience and these scopes.

    Return whether the new token may leave the caller out as an actor. `held_scopes` are those of the presented token:
    no right adds to them. `held_audience` are the audiences that the caller may name for its own token without a right.
    Beyond them, and for tokens of other clients, one `exchange` right must allow the whole request.

    Raises `ScopeExceededError` and `PermissionDeniedError`.
    """
    for scope in scopes:
        if scope not in held_scopes:
            raise ScopeExceededError(
                f"scopes: the subject token does not have {scope!r}", metadata={"field": "scopes"}
            )
    is_own = bool(owner) and owner == caller.client_id
    if is_own and all(value in held_audience for value in audience):
        return True
    caller.require(Permission.EXCHANGE)
    crossed = caller.rights.problem_of(
        Permission.EXCHANGE,
        client_id=owner,
        audience=audience,
        scopes=scopes,
        token_types=(kind.name.lower(),),
        uses=_IMPERSONATION,
    )
    # "may" is crossed last: a right allows the rest of the request.
    if crossed is not None and crossed[0] != "may":
        raise _outside(Permission.EXCHANGE, *crossed)
    return is_own or crossed is None


def admit_actor(caller: Caller, client_id: str) -> None:
    """Raise `PermissionDeniedError` unless the caller may name the subject of a token of this client as the actor."""
    if client_id != caller.client_id and not caller.rights.cover_client(Permission.EXCHANGE, client_id):
        raise _outside(Permission.EXCHANGE, "clients", client_id)


def admit_exchange_as_client(caller: Caller, *, subject: str, is_caller: bool) -> None:
    """Raise if an exchange would turn the token of a user, whose name is that of the caller, into one of the caller.

    A token of a client for itself and this service gives its holder the rights of the client. `is_caller`: the subject
    token is such a token already. One for another audience may be that of a user.
    """
    if subject == caller.client_id and not is_caller:
        raise PermissionDeniedError(
            f"the subject {subject!r} of the token has the name of the client, whose rights the new token would give",
            metadata={"permission": Permission.EXCHANGE.value},
        )


def admit_as_client(caller: Caller, client_id: str) -> None:
    """Raise `PermissionDeniedError` unless the caller may get a token that makes its holder a registered client here.

    Only the client itself may, and a caller with `admin.write`, who could change the client. Without this rule the
    permission `issue` would give the rights of every client, and so would a user whose name is that of a client. A public
    client proves nothing, so it is not the client itself here.
    """
    is_client = caller.client_id == client_id and caller.proof is not Proof.CLIENT_ID
    if not is_client and Permission.ADMIN_WRITE not in caller.permissions:
        raise PermissionDeniedError(
            f"a token of client {client_id!r} for itself and this service would act with the rights of the client; "
            "only the client itself and callers with the permission admin.write may issue it",
            metadata={"permission": Permission.ADMIN_WRITE.value},
        )


def admit_grant(caller: Caller, client: Client | None, grant_type: str) -> Client:
    """Return the client, which must be the caller and be registered for a grant type (RFC 6749, section 5.2).

    Its registration is its right: a grant needs no permission. Raises `CallerUnauthenticatedError` and
    `GrantTypeNotAllowedError`.
    """
    if client is None or not caller.client_id or client.client_id != caller.client_id:
        raise CallerUnauthenticatedError("the token endpoint serves registered clients only")
    if grant_type not in client.grant_types:
        raise GrantTypeNotAllowedError(
            f"the client is not registered for the grant type {grant_type}",
            metadata={"grant_type": grant_type},
        )
    return client


def admit_introspection(caller: Caller) -> str:
    """Return the client whose tokens the caller may introspect; empty: those of every client.

    A caller with the permission to validate may introspect every token, an authenticated client its own ones. A public
    client proves nothing, so it could try stolen tokens (RFC 7662, section 2.1). Raises `CallerUnauthenticatedError` and
    `PermissionDeniedError`.
    """
    if caller.proof is Proof.CLIENT_ID:
        raise CallerUnauthenticatedError(
            "a public client can't introspect tokens, because it does not prove itself"
        )
    if Permission.VALIDATE in caller.permissions:
        return ""
    if not caller.client_id:
        caller.require(Permission.VALIDATE)
    return caller.client_id


RECEIVER_READ: Final = "ssf.read"
"""The scope of a receiver of event streams that reads its streams and polls."""
RECEIVER_MANAGE: Final = "ssf.manage"
"""The scope of a receiver that changes its streams, too."""


def admit_receiver(caller: Caller, scope: str) -> str:
    """Return the client that is the caller, which must have an access token with a scope for event streams.

    Its registration for the scope is its right: it reaches only its own streams. Raises `CallerUnauthenticatedError` and
    `PermissionDeniedError`.
    """
    if caller.token is None or not caller.client_id:
        raise CallerUnauthenticatedError(
            f"send an access token of a registered client for this service, with the scope {RECEIVER_READ} or "
            f"{RECEIVER_MANAGE}"
        )
    if not {scope, RECEIVER_MANAGE}.intersection(caller.token.scopes):
        raise PermissionDeniedError(f"the access token lacks the scope {scope}", metadata={"scope": scope})
    return caller.client_id


def deny_outside_clients(permission: Permission, what: str) -> PermissionDeniedError:
    """Return the error for an object that a right for some clients never covers, such as a whole subject."""
    return PermissionDeniedError(
        f"this call needs the permission {permission.value} for every client, because it names {what}",
        metadata={"permission": permission.value, "bound": "clients"},
    )


def _outside(permission: Permission, bound: str, value: str) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"the caller has the permission {permission.value}, but its bound {bound} excludes {value!r}",
        metadata={"permission": permission.value, "bound": bound},
    )
