"""Conversion of results of the core to messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.serialization import load_der_public_key

from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.personal_tokens import last_use
from token_service.core.sessions.session import Session, SessionState
from token_service.core.validation.introspector import OpaqueClaims
from token_service.rpc.convert.values import set_timestamp, struct_of_json, timestamp
from token_service.tokens.claims import AuthContext, Confirmation, VerifiedClaims
from token_service.tokens.jwk import public_jwk
from token_service.tokens.revocation import Revocation, RevocationTarget
from token_service.tokens.revocation_set import Block
from token_service.v1 import (
    key_service_pb2,
    personal_access_token_service_pb2 as pat_pb2,
    session_service_pb2,
    token_pb2,
    token_service_pb2,
)

_Issued = TypeVar("_Issued", token_service_pb2.IssueTokenResponse, token_service_pb2.RefreshTokenResponse)

_SESSION_STATES: Final = {
    SessionState.ACTIVE: session_service_pb2.SESSION_STATE_ACTIVE,
    SessionState.IDLE: session_service_pb2.SESSION_STATE_EXPIRED,
    SessionState.EXPIRED: session_service_pb2.SESSION_STATE_EXPIRED,
    SessionState.REVOKED: session_service_pb2.SESSION_STATE_REVOKED,
}
_KEY_STATES: Final = {
    SigningKeyState.PREPARED: key_service_pb2.SIGNING_KEY_STATE_PREPARED,
    SigningKeyState.ACTIVE: key_service_pb2.SIGNING_KEY_STATE_ACTIVE,
    SigningKeyState.RETIRED: key_service_pb2.SIGNING_KEY_STATE_RETIRED,
    SigningKeyState.REVOKED: key_service_pb2.SIGNING_KEY_STATE_REVOKED,
}
_REVOKED_THROUGH: Final = {
    RevocationTarget.SESSION: session_service_pb2.REVOKED_THROUGH_SESSION,
    RevocationTarget.SUBJECT: session_service_pb2.REVOKED_THROUGH_SUBJECT,
    RevocationTarget.CLIENT: session_service_pb2.REVOKED_THROUGH_CLIENT,
    RevocationTarget.EVERYTHING: session_service_pb2.REVOKED_THROUGH_EVERYTHING,
}
_BLOCK_TARGETS: Final = {
    RevocationTarget.TOKEN_ID: token_service_pb2.BLOCK_TARGET_TOKEN_ID,
    RevocationTarget.SESSION: token_service_pb2.BLOCK_TARGET_SESSION_ID,
}
_TARGET_FIELDS: Final = {
    RevocationTarget.TOKEN_ID: "token_id",
    RevocationTarget.SESSION: "session_id",
    RevocationTarget.SUBJECT: "subject",
    RevocationTarget.CLIENT: "client_id",
    RevocationTarget.KEY: "key_id",
}


def issued_tokens(kind: type[_Issued], tokens: IssuedTokens) -> _Issued:
    """Build the response to IssueToken or RefreshToken."""
    response = kind(
        access_token=tokens.access_token,
        token_type=tokens.token_type,
        refresh_token=tokens.refresh_token,
        id_token=tokens.id_token,
        session_token=tokens.session_token,
        session_id=tokens.session_id,
        token_id=tokens.token_id,
        scopes=tokens.scopes,
    )
    if tokens.access_token_expire_time is not None:
        set_timestamp(response.access_token_expire_time, tokens.access_token_expire_time)
    if tokens.refresh_token_expire_time is not None:
        set_timestamp(response.refresh_token_expire_time, tokens.refresh_token_expire_time)
    return response


def active_jwt(claims: VerifiedClaims) -> token_service_pb2.ValidateTokenResponse:
    """Build the ValidateToken response for an active JWT, without the cursor."""
    response = token_service_pb2.ValidateTokenResponse(active=True)
    message = response.claims  # filled in place: assigning a message copies it
    message.token_type = int(claims.kind)  # type: ignore[assignment]  # numbered alike
    message.token_id = claims.token_id
    message.session_id = claims.session_id
    message.issuer = claims.issuer
    message.subject = claims.subject
    message.audience.extend(claims.audience)
    message.client_id = claims.client_id
    message.scopes.extend(sorted(claims.scopes))
    set_timestamp(message.issue_time, claims.issue_time)
    set_timestamp(message.expire_time, claims.expire_time)
    if claims.not_before:
        set_timestamp(message.not_before, claims.not_before)
    _add_context(message, claims.auth_context, claims.confirmation)
    _add_custom_claims(message, claims.custom_claims)
    if claims.actor is not None:
        message.actor.CopyFrom(struct_of_json(claims.actor))
    return response


def opaque_claims(claims: OpaqueClaims, issuer: str) -> token_pb2.Claims:
    """Build the claims of an opaque token."""
    session = claims.session
    message = token_pb2.Claims(
        token_type=int(claims.kind),  # type: ignore[arg-type]  # numbered alike
        session_id=str(session.id),
        issuer=issuer,
        subject=session.subject,
        audience=session.audience,
        client_id=session.client_id,
        scopes=session.scopes,
        issue_time=timestamp(session.create_time),
        expire_time=timestamp(min(session.idle_expire_time, session.absolute_expire_time)),
    )
    _add_context(message, session.auth_context, session.confirmation)
    _add_custom_claims(message, session.custom_claims)
    return message


def session_message(details: SessionDetails, now: float) -> session_service_pb2.Session:
    """Build the message of a session as of `now`."""
    session = details.session
    message = session_service_pb2.Session(
        session_id=str(session.id),
        subject=session.subject,
        client_id=session.client_id,
        device_id=session.device_id,
        scopes=session.scopes,
        audience=session.audience,
        state=_SESSION_STATES[session.state(now)],
        generation=session.generation,
        create_time=timestamp(session.create_time),
        last_use_time=timestamp(session.last_use_time),
        idle_expire_time=timestamp(session.idle_expire_time),
        absolute_expire_time=timestamp(session.absolute_expire_time),
        created_from=_client_context(details.created_from),
        last_used_from=_client_context(details.last_used_from),
        personal_access_token_name=session.name,
        upstream=session.upstream,
    )
    end = details.end()
    if end is not None:
        message.revoke_time.CopyFrom(timestamp(end.time))
        message.revoke_reason = int(end.reason)  # type: ignore[assignment]  # numbered alike
        message.revoked_through = _REVOKED_THROUGH[end.through]
    if session.auth_context is not None:
        message.auth_context.CopyFrom(_auth_context(session.auth_context))
    if session.confirmation:
        message.confirmation.CopyFrom(_confirmation(session.confirmation))
    return message


def personal_access_token(details: SessionDetails, now: float) -> pat_pb2.PersonalAccessToken:
    """Build the message of a personal access token as of `now`, without its secret."""
    session = details.session
    message = pat_pb2.PersonalAccessToken(
        personal_access_token_id=str(session.id),
        name=session.name,
        subject=session.subject,
        client_id=session.client_id,
        audience=session.audience,
        scopes=session.scopes,
        state=_SESSION_STATES[session.state(now)],
        create_time=timestamp(session.create_time),
        expire_time=timestamp(session.absolute_expire_time),
    )
    used = last_use(session)
    if used is not None:
        message.last_use_time.CopyFrom(timestamp(used))
    end = details.end()
    if end is not None:
        message.revoke_time.CopyFrom(timestamp(end.time))
        message.revoke_reason = int(end.reason)  # type: ignore[assignment]  # numbered alike
        message.revoked_through = _REVOKED_THROUGH[end.through]
    return message


def extended_session(session: Session, now: float) -> session_service_pb2.Session:
    """Build the part of a session that ExtendSession returns: its caller knows only the session's id and client."""
    return session_service_pb2.Session(
        session_id=str(session.id),
        state=_SESSION_STATES[session.state(now)],
        create_time=timestamp(session.create_time),
        last_use_time=timestamp(session.last_use_time),
        idle_expire_time=timestamp(session.idle_expire_time),
        absolute_expire_time=timestamp(session.absolute_expire_time),
    )


def updated_session(session: Session, now: float) -> session_service_pb2.Session:
    """Build the part of a session that UpdateSession returns: the fields that it can change, id, state and times."""
    message = extended_session(session, now)
    message.scopes.extend(session.scopes)
    if session.auth_context is not None:
        message.auth_context.CopyFrom(_auth_context(session.auth_context))
    return message


def key_set(jwks: Iterable[Mapping[str, Any]], revision: int, issuer: str) -> key_service_pb2.KeySet:
    """Build the published key set."""
    return key_service_pb2.KeySet(revision=revision, keys=[_jwk(jwk) for jwk in jwks], issuer=issuer)


def signing_key(key: StoredSigningKey) -> key_service_pb2.SigningKey:
    """Build the message of a signing key, without its private key."""
    message = key_service_pb2.SigningKey(
        key_id=key.key_id,
        algorithm=key.algorithm.value,
        state=_KEY_STATES[key.state],
        create_time=timestamp(key.create_time),
        provider=key.provider,
    )
    for name in ("activate_time", "retire_time", "revoke_time"):
        value = getattr(key, name)
        if value is not None:
            getattr(message, name).CopyFrom(timestamp(value))
    if key.public_key:
        material = load_der_public_key(key.public_key)
        jwk = public_jwk(material, key.algorithm)  # type: ignore[arg-type]  # raises for other types
        message.public_key.CopyFrom(_jwk(jwk))
    return message


def revocation(entry: Revocation) -> token_service_pb2.Revocation:
    """Build the message of a log entry."""
    message = token_service_pb2.Revocation(
        sequence=entry.sequence,
        revoke_time=timestamp(entry.revoke_time),
        expire_time=timestamp(entry.expire_time),
        reason=int(entry.reason),  # type: ignore[arg-type]  # numbered alike
    )
    field = _TARGET_FIELDS.get(entry.target)
    if field is None:
        message.everything = True
    else:
        setattr(message, field, entry.value)
    if entry.token_expire_time is not None:
        message.token_expire_time.seconds = entry.token_expire_time
    return message


def snapshot_block(block: Block) -> token_service_pb2.SnapshotBlock:
    """Build one block of a snapshot."""
    return token_service_pb2.SnapshotBlock(
        target=_BLOCK_TARGETS[block.target],
        bucket=block.bucket,
        fingerprints=block.fingerprints,
        expire_time=timestamp(block.expire_time),
    )


def _jwk(jwk: Mapping[str, Any]) -> key_service_pb2.JsonWebKey:
    return key_service_pb2.JsonWebKey(**jwk)


def _add_context(
    message: token_pb2.Claims, auth_context: AuthContext | None, confirmation: Confirmation
) -> None:
    if auth_context is not None:
        message.auth_context.CopyFrom(_auth_context(auth_context))
    if confirmation:
        message.confirmation.CopyFrom(_confirmation(confirmation))


def _add_custom_claims(message: token_pb2.Claims, claims: Mapping[str, Any]) -> None:
    if claims:
        message.custom_claims.CopyFrom(struct_of_json(claims))


def _auth_context(context: AuthContext) -> token_pb2.AuthContext:
    message = token_pb2.AuthContext(acr=context.acr, amr=context.amr)
    if context.auth_time is not None:
        message.auth_time.CopyFrom(timestamp(context.auth_time))
    return message


def _client_context(origin: Origin) -> token_pb2.ClientContext | None:
    if origin == NO_ORIGIN:
        return None
    return token_pb2.ClientContext(ip_address=origin.ip_address, user_agent=origin.user_agent)


def _confirmation(confirmation: Confirmation) -> token_pb2.Confirmation:
    return token_pb2.Confirmation(jkt=confirmation.jkt, x5t_s256=confirmation.x5t_s256)
