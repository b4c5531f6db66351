"""Conversion of requests to commands of the core.

These functions check unknown enum values, durations and timestamps out of range, and missing choices, which the core
can't see. The core checks lengths and counts. An invalid request raises `InvalidRequestError` with every violation
found.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct

from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.grants.authorization import AuthorizationGrantCommand
from token_service.core.issuing.commands import DEFAULT_KINDS, ISSUABLE, IssueCommand, RefreshCommand
from token_service.core.issuing.personal_access_tokens import CreateCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.limits import (
    DEFAULT_WAIT,
    MAX_CLIENT_VERSION,
    MAX_CUSTOM_CLAIMS,
    MAX_ENCODED_CUSTOM_CLAIMS,
    MAX_SCOPES,
    MAX_SUBSCRIBER_ID,
    MAX_TOKEN_TYPES,
    MAX_UPDATE_PATHS,
    THUMBPRINT,
    Checks,
    is_thumbprint,
)
from token_service.core.login.challenge import AcceptCommand
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.sessions.store import SessionFilter
from token_service.core.subscribers.validations import ValidationReport
from token_service.core.validation.introspector import TokenQuery
from token_service.errors import CustomClaimsTooLargeError
from token_service.rpc.convert.values import json_of_struct, seconds_of_duration, seconds_of_timestamp
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind
from token_service.tokens.possession import NOTHING_PRESENTED, Presented
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget
from token_service.v1 import (
    authorization_service_pb2,
    personal_access_token_service_pb2,
    session_service_pb2,
    token_pb2,
    token_service_pb2,
)

_KINDS: Final = {int(kind): kind for kind in TokenKind}
_KINDS_ALLOWED: Final = f"is none of the token types {', '.join(kind.name for kind in TokenKind)}"
_ISSUABLE: Final = {int(kind): kind for kind in sorted(ISSUABLE)}
_ISSUABLE_ALLOWED: Final = f"is none of the token types {', '.join(kind.name for kind in _ISSUABLE.values())}"
_REASONS: Final = {int(reason): reason for reason in RevocationReason}
_LOCAL: Final = frozenset(
    {token_service_pb2.CONSISTENCY_UNSPECIFIED, token_service_pb2.CONSISTENCY_LOCAL},
)
_TARGETS: Final = {
    "token_id": RevocationTarget.TOKEN_ID,
    "session_id": RevocationTarget.SESSION,
    "subject": RevocationTarget.SUBJECT,
    "client_id": RevocationTarget.CLIENT,
    "key_id": RevocationTarget.KEY,
    "everything": RevocationTarget.EVERYTHING,
}
_FILTERS: Final = {
    "subject": SessionFilter.SUBJECT,
    "client_id": SessionFilter.CLIENT,
    "device_id": SessionFilter.DEVICE,
}


def issue_command(request: token_service_pb2.IssueTokenRequest) -> IssueCommand:
    """Convert an IssueTokenRequest."""
    checks = Checks()
    auth_context = _auth_context(request, checks)
    kinds: frozenset[TokenKind] | None = None
    if len(request.token_types) > MAX_TOKEN_TYPES:
        checks.add("token_types", f"has more than {MAX_TOKEN_TYPES} items")
    else:
        kinds = _kinds(tuple(request.token_types))
        if kinds is None:
            for number, value in enumerate(request.token_types):
                if value not in _ISSUABLE:
                    checks.add(f"token_types[{number}]", _ISSUABLE_ALLOWED)
    command = IssueCommand(
        subject=request.subject,
        client_id=request.client_id,
        audience=tuple(request.audience),
        scopes=tuple(request.scopes),
        kinds=kinds or DEFAULT_KINDS,
        auth_context=auth_context,
        custom_claims=_custom_claims(request.custom_claims, checks)
        if request.HasField("custom_claims")
        else {},
        device_id=request.device_id,
        access_token_ttl=seconds_of_duration(request.access_token_ttl, "access_token_ttl", checks)
        if request.HasField("access_token_ttl")
        else None,
        refresh_token_ttl=seconds_of_duration(request.refresh_token_ttl, "refresh_token_ttl", checks)
        if request.HasField("refresh_token_ttl")
        else None,
        confirmation=_confirmation(request),
        nonce=request.nonce,
        request_id=request.request_id,
        client_context=client_context(request),
    )
    checks.done()
    return command


def authorization_grant_command(
    request: authorization_service_pb2.CreateAuthorizationGrantRequest,
) -> AuthorizationGrantCommand:
    """Convert a CreateAuthorizationGrantRequest."""
    checks = Checks()
    command = AuthorizationGrantCommand(
        client_id=request.client_id,
        redirect_uri=request.redirect_uri,
        code_challenge=request.code_challenge,
        subject=request.subject,
        audience=tuple(request.audience),
        scopes=tuple(request.scopes),
        nonce=request.nonce,
        auth_context=_auth_context(request, checks),
        custom_claims=_custom_claims(request.custom_claims, checks)
        if request.HasField("custom_claims")
        else {},
        identity_claims=_custom_claims(request.identity_claims, checks, "identity_claims"),
    )
    checks.done()
    return command


def accept_command(request: authorization_service_pb2.AcceptLoginRequestRequest) -> AcceptCommand:
    """Convert an AcceptLoginRequestRequest."""
    checks = Checks()
    command = AcceptCommand(
        login_challenge=request.login_challenge,
        subject=request.subject,
        auth_context=_auth_context(request, checks),
        custom_claims=_custom_claims(request.custom_claims, checks)
        if request.HasField("custom_claims")
        else {},
        identity_claims=_custom_claims(request.identity_claims, checks, "identity_claims"),
    )
    checks.done()
    return command


def refresh_command(
    request: token_service_pb2.RefreshTokenRequest, keys: ProvedKeys = NO_KEYS
) -> RefreshCommand:
    """Convert a RefreshTokenRequest, whose holder proves these keys."""
    return RefreshCommand(
        refresh_token=request.refresh_token,
        client_id=request.client_id,
        device_id=request.device_id,
        scopes=tuple(request.scopes),
        audience=tuple(request.audience),
        client_context=client_context(request),
        keys=keys,
    )


def presented(
    request: token_service_pb2.RefreshTokenRequest | token_service_pb2.ValidateTokenRequest, path: str = ""
) -> Presented:
    """Return the proofs in the binding of a request; `path` is its field path in a batch."""
    if not request.HasField("binding"):
        return NOTHING_PRESENTED
    binding = request.binding
    checks = Checks()
    # The sender of the token may be a stranger, so what it chose is judged and never fails a whole batch.
    if binding.dpop_proof and not (binding.http_method and binding.http_uri):
        checks.add(f"{path}binding", "needs http_method and http_uri with dpop_proof")
    thumbprint = binding.certificate_thumbprint
    if thumbprint and not is_thumbprint(thumbprint):
        checks.add(
            f"{path}binding.certificate_thumbprint",
            f"is not a SHA-256 thumbprint in base64url ({THUMBPRINT} characters)",
        )
    checks.done()
    return Presented(
        dpop_proof=binding.dpop_proof or None,
        method=binding.http_method,
        uri=binding.http_uri,
        certificate_thumbprint=thumbprint,
    )


def revoke_command(request: token_service_pb2.RevokeTokenRequest) -> RevokeCommand:
    """Convert a RevokeTokenRequest."""
    checks = Checks()
    target = request.WhichOneof("target")
    reason = _REASONS.get(request.reason)
    if reason is None:
        checks.add("reason", "is not a known reason")
        reason = RevocationReason.UNSPECIFIED
    value = ""
    if target == "everything":
        if not request.everything:
            checks.add("everything", "must be true")
    elif target is not None and target != "token":
        value = getattr(request, target)
    wait: float | None = None
    if request.wait.applied_by_all:
        wait = DEFAULT_WAIT
        if request.wait.HasField("timeout"):
            wait = seconds_of_duration(request.wait.timeout, "wait.timeout", checks)
    checks.done()
    return RevokeCommand(
        token=request.token,
        target=_TARGETS.get(target) if target is not None else None,
        value=value,
        reason=reason,
        comment=request.comment,
        wait=wait,
    )


def is_waiting(request: token_service_pb2.RevokeTokenRequest) -> bool:
    """Return whether the response waits for subscribers."""
    return request.wait.applied_by_all


def is_local(request: token_service_pb2.ValidateTokenRequest) -> bool:
    """Return whether this node may answer from its replica."""
    return request.consistency in _LOCAL


def token_query(request: token_service_pb2.ValidateTokenRequest, path: str = "") -> TokenQuery:
    """Convert a ValidateTokenRequest; `path` is its field path in a batch."""
    hint = request.token_type_hint
    scopes = request.required_scopes
    if (
        not request.token
        or hint not in _KINDS_OR_ANY
        or request.consistency > token_service_pb2.CONSISTENCY_STRONG
        or request.consistency < 0
        or len(scopes) > MAX_SCOPES
    ):
        raise_violations(lambda checks: _check_query(request, path, checks))
    return TokenQuery(
        request.token,
        request.audience,
        scopes,
        _KINDS_OR_ANY[hint],
        not is_local(request),
        presented=presented(request, path),
        caller_checks_binding=request.caller_checks_binding,
    )


_KINDS_OR_ANY: Final[dict[int, TokenKind | None]] = {token_pb2.TOKEN_TYPE_UNSPECIFIED: None, **_KINDS}


def _check_query(request: token_service_pb2.ValidateTokenRequest, path: str, checks: Checks) -> None:
    if not request.token:
        checks.add(f"{path}token", "is required")
    if request.token_type_hint not in _KINDS_OR_ANY:
        checks.add(f"{path}token_type_hint", _KINDS_ALLOWED)
    if request.consistency not in token_service_pb2.Consistency.values():
        checks.add(f"{path}consistency", "is neither LOCAL nor STRONG")
    if len(request.required_scopes) > MAX_SCOPES:
        checks.add(f"{path}required_scopes", f"has more than {MAX_SCOPES} items")


def subscription(cursor_text: str, subscriber_id: str, field: str) -> Cursor | None:
    """Parse a subscriber's cursor, which the request has in `field`; None if the subscriber has none yet."""
    cursor: Cursor | None = None
    checks = Checks()
    checks.text("subscriber_id", subscriber_id, MAX_SUBSCRIBER_ID)
    if cursor_text:
        try:
            cursor = Cursor.parse(cursor_text)
        except ValueError:
            checks.add(field, "is not a cursor this service gave")
    checks.done()
    return cursor


def validation_report(request: token_service_pb2.ConfirmRevocationsRequest) -> ValidationReport:
    """Convert what a ConfirmRevocationsRequest says about validations. The core bounds the counts."""
    checks = Checks()
    checks.text("client_version", request.client_version, MAX_CLIENT_VERSION)
    checks.done()
    return ValidationReport(
        client_version=request.client_version,
        validated=request.validated,
        refusals=[(each.reason, each.count) for each in request.refusals],
    )


def session_filter(request: session_service_pb2.ListSessionsRequest) -> tuple[SessionFilter, str]:
    """Return which sessions a ListSessionsRequest selects."""
    chosen = request.WhichOneof("filter")
    if chosen is None:
        raise_violations(
            lambda checks: checks.add("filter", "is required: one of subject, client_id, device_id")
        )
    return _FILTERS[chosen], getattr(request, chosen)


def idle_timeout(request: session_service_pb2.ExtendSessionRequest) -> float | None:
    """Return the requested idle timeout in seconds; None: the policy's."""
    if not request.HasField("idle_timeout"):
        return None
    checks = Checks()
    seconds = seconds_of_duration(request.idle_timeout, "idle_timeout", checks)
    checks.done()
    return seconds


def update_session_command(request: session_service_pb2.UpdateSessionRequest) -> UpdateSessionCommand:
    """Convert an UpdateSessionRequest."""
    checks = Checks()
    paths = request.update_mask.paths
    if len(paths) > MAX_UPDATE_PATHS:
        checks.add("update_mask", f"has more than {MAX_UPDATE_PATHS} paths")
    else:
        for number, path in enumerate(paths):
            if path not in _UPDATABLE:
                checks.add(f"update_mask.paths[{number}]", f"is none of {', '.join(_UPDATABLE)}")
    for name in _UPDATABLE:
        is_set = bool(request.scopes) if name == "scopes" else request.HasField(name)
        if is_set and name not in paths:
            checks.add(name, "is set, but update_mask does not name it")
    command = UpdateSessionCommand(
        session_id=request.session_id,
        client_id=request.client_id,
        fields=frozenset(paths),
        scopes=tuple(request.scopes),
        custom_claims=_custom_claims(request.custom_claims, checks),
        auth_context=_auth_context(request, checks),
    )
    checks.done()
    return command


def create_personal_access_token(
    request: personal_access_token_service_pb2.CreatePersonalAccessTokenRequest,
) -> CreateCommand:
    """Convert a CreatePersonalAccessTokenRequest."""
    checks = Checks()
    command = CreateCommand(
        subject=request.subject,
        client_id=request.client_id,
        name=request.name,
        audience=tuple(request.audience),
        scopes=tuple(request.scopes),
        ttl=seconds_of_duration(request.ttl, "ttl", checks),
        request_id=request.request_id,
        client_context=client_context(request),
    )
    checks.done()
    return command


def revocation_reason(value: int) -> RevocationReason:
    """Return a reason by its number in the enum of a request."""
    reason = _REASONS.get(value)
    if reason is None:
        raise_violations(lambda checks: checks.add("reason", "is not a known reason"))
    return reason or RevocationReason.UNSPECIFIED


def raise_violations(check: Callable[[Checks], None]) -> None:
    """Raise `InvalidRequestError` with the violations `check` finds."""
    checks = Checks()
    check(checks)
    checks.done()


@lru_cache(256)
def _kinds(values: tuple[int, ...]) -> frozenset[TokenKind] | None:
    """Return the token kinds of these enum numbers; None if IssueToken issues no token of one of them."""
    kinds = frozenset(map(_ISSUABLE.get, values))
    return None if None in kinds else kinds  # type: ignore[return-value]  # None is excluded


def _custom_claims(struct: Struct, checks: Checks, field: str = "custom_claims") -> dict[str, Any]:
    """Convert custom claims. Raises `CustomClaimsTooLargeError`, before converting, above what any policy allows."""
    if len(struct.fields) > MAX_CUSTOM_CLAIMS:
        raise CustomClaimsTooLargeError(f"{field}: more than {MAX_CUSTOM_CLAIMS} claims")
    if struct.ByteSize() > MAX_ENCODED_CUSTOM_CLAIMS:
        raise CustomClaimsTooLargeError(f"{field}: more than {MAX_ENCODED_CUSTOM_CLAIMS} bytes")
    return json_of_struct(struct, field, checks)


def _auth_context(
    request: token_service_pb2.IssueTokenRequest
    | session_service_pb2.UpdateSessionRequest
    | authorization_service_pb2.CreateAuthorizationGrantRequest
    | authorization_service_pb2.AcceptLoginRequestRequest,
    checks: Checks,
) -> AuthContext | None:
    if not request.HasField("auth_context"):
        return None
    context = request.auth_context
    auth_time: int | None = None
    if context.HasField("auth_time"):
        auth_time = int(seconds_of_timestamp(context.auth_time, "auth_context.auth_time", checks))
    return AuthContext(context.acr, tuple(context.amr), auth_time)


def _confirmation(request: token_service_pb2.IssueTokenRequest) -> Confirmation:
    if not request.HasField("confirmation"):
        return _BEARER
    return Confirmation(request.confirmation.jkt, request.confirmation.x5t_s256)


def client_context(
    request: token_service_pb2.IssueTokenRequest
    | token_service_pb2.RefreshTokenRequest
    | personal_access_token_service_pb2.CreatePersonalAccessTokenRequest
    | session_service_pb2.ExtendSessionRequest,
) -> Origin:
    """Return the origin that a request reports."""
    if not request.HasField("client_context"):
        return NO_ORIGIN
    return Origin(request.client_context.ip_address, request.client_context.user_agent)


_UPDATABLE: Final = ("scopes", "custom_claims", "auth_context")
_BEARER: Final = Confirmation()
