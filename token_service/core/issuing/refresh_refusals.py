"""Why the row of a session does not accept a refresh token."""

from __future__ import annotations

from token_service.core.issuing.commands import RefreshCommand
from token_service.core.policies.policy import Policy
from token_service.core.sessions.session import Session, SessionState
from token_service.errors import (
    BindingRequiredError,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ServiceError,
    SessionIdleError,
    SessionRevokedError,
    TooManyRetriesError,
    WrongClientError,
    WrongDeviceError,
    WrongKeyError,
)
from token_service.tokens.opaque_token import OpaqueToken


def refusal_of(
    command: RefreshCommand,
    presented: OpaqueToken,
    session: Session | None,
    policy: Policy,
    now: float,
) -> ServiceError | None:
    """Return why the current row does not accept the token; None: it does, unless the row changes."""
    if session is None:
        return RefreshTokenInvalidError()
    if session.client_id != command.client_id:
        return WrongClientError()
    if session.device_id not in ("", command.device_id):
        return WrongDeviceError()
    try:
        command.keys.require(session.confirmation, "the session")
    except (BindingRequiredError, WrongKeyError) as error:
        return error
    state = session.state(now)
    if state is SessionState.REVOKED:
        return SessionRevokedError()
    if state is SessionState.EXPIRED:
        return RefreshTokenExpiredError()
    if state is SessionState.IDLE:
        return SessionIdleError()
    if presented.generation > session.generation:
        return RefreshTokenInvalidError()  # issued in a history that a restore of the database removed
    if presented.generation == session.generation:
        return None if presented.secret_hash == session.refresh_hash else RefreshTokenInvalidError()
    in_grace = session.rotate_time > now - policy.grace_period
    # A client that was told to retry later must not count as a thief when it does.
    refused = 0 < policy.max_retries <= session.retries
    if presented.generation + 1 == session.generation and (in_grace or refused):
        if presented.secret_hash != session.previous_hash:
            return RefreshTokenInvalidError()
        if session.retries >= policy.max_retries:
            return TooManyRetriesError(retry_after=max(1.0, policy.grace_period))
        return None
    return RefreshTokenReusedError()
